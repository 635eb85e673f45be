"""Reads the arrays of .safetensors files, in one piece or in shards."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mlfem_jax.files import HEADER_BYTES, check_sizes, naming, read_json, shown

INDEX = ".index.json"
"""How the name of a file ends that says which shard holds which array."""

_DTYPES: dict[str, np.dtype] = {
    name: np.dtype(dtype)
    for name, dtype in {
        "BOOL": np.bool_,
        **{f"{kind}{bits}": f"{kind.lower()}{bits // 8}" for kind in "IU" for bits in (8, 16, 32, 64)},
        **{f"F{bits}": f"f{bits // 8}" for bits in (16, 32, 64)},
        "BF16": jnp.bfloat16,
        "F8_E4M3": jnp.float8_e4m3fn,
        "F8_E4M3FNUZ": jnp.float8_e4m3fnuz,
        "F8_E5M2": jnp.float8_e5m2,
        "F8_E5M2FNUZ": jnp.float8_e5m2fnuz,
        "F8_E8M0": jnp.float8_e8m0fnu,
    }.items()
}


def read_safetensors_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors file, float8 and bfloat16 as JAX's types of these names.

    Args:
        path: the file.

    Returns:
        Arrays by name.

    Raises:
        ValueError: a type that is not read (float4, float6 and complex numbers). Errors of `safetensors`, which checks
            that the declared arrays fill the file, pass: the caller names the file.
    """
    import safetensors

    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(HEADER_BYTES, size):
            raise ValueError(f"expected a header that fits into {size} bytes of .safetensors, got one of {length}")
        header = file.read(length)
    with safetensors.safe_open(path, "numpy") as file:
        json.loads(header, object_pairs_hook=_distinct)  # the library has parsed it: it is not deep
        slices = {name: file.get_slice(name) for name in file.keys()}
        kinds = {name: piece.get_dtype() for name, piece in slices.items()}
        for name, kind in kinds.items():
            if kind not in _DTYPES:
                raise ValueError(f"{shown(name)}: expected {', '.join(_DTYPES)}, got {kind}, which is not read")
        check_sizes(((name, tuple(slices[name].get_shape()), _DTYPES[kinds[name]]) for name in kinds), size)
        if not any(kind.startswith("F8") for kind in kinds.values()):
            return {name: file.get_tensor(name) for name in kinds}
    # The library's reader for NumPy does not know float8; its parser gives the bytes of any type.
    parsed = safetensors.deserialize(path.read_bytes())
    return {
        name: np.frombuffer(piece["data"], _DTYPES[piece["dtype"]]).reshape(piece["shape"]) for name, piece in parsed
    }


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object, none of whose names is there twice: the library would keep the last in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"expected arrays of distinct names, got two called {shown(twice)!r}")
    return found


def read_shards(index: Path, read: Callable[[Path], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of a file in shards, which all lie beside their index.

    Args:
        index: a JSON file whose "weight_map" says in which file each array lies.
        read: reads one of those files.

    Returns:
        Arrays by name, as the index lists them.

    Raises:
        ValueError: a damaged index, a shard that is elsewhere or lacks an array; does not name the index.
    """
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(place, str) for place in places.values()):
        raise ValueError("weight_map: expected names, and the file of each, got something else")
    arrays: dict[str, np.ndarray] = {}
    for place in sorted(set(places.values())):
        if Path(place).name != place or place in (".", "..") or place.endswith(INDEX):
            raise ValueError(f"weight_map: expected shards that lie beside it, got {shown(place)!r}; refused")
        shard = index.parent / place
        if not shard.is_file():
            raise ValueError(f"{shown(place)}: expected this shard beside the index, got none")
        with naming(shown(place)):
            held = read(shard)
        for name in (name for name, other in places.items() if other == place):
            if name not in held:
                raise ValueError(f"{shown(place)}: expected {shown(name)} in this shard, got none")
            arrays[name] = held[name]
    return arrays
