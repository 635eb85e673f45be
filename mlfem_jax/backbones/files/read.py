"""Weight files of every usual kind to a flat dict of arrays, and the check of that dict against a network."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from mlfem_jax.backbones.files.torch_file import LEGACY_MAGIC, read_torch_file

_KINDS = ".safetensors, a torch .pth/.pt state dict, .npz, a Keras .h5, an .onnx file, or an orbax folder"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_LISTED = 10
_OF_RUN = "weights"  # the folder in a run's folder
LABELS = "classifier.json"


def read_weights(path: str | Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays of a weight file, by the names that they have in it.

    The kind is told by the content, not by the suffix, and nothing in any kind of file is executed. A torch
    state dict inside a dict ("state_dict", "model_state_dict" or "model") is unwrapped, and the prefix
    "module." of torch's DataParallel is taken off when every name has it. Keras arrays are called
    "layer/kernel", those of an orbax folder by their keys joined with ".".

    Args:
        path: .safetensors; a torch state dict (.pth, .pt: zip or legacy layout); .npz; .h5 that Keras wrote
            (needs h5py); .onnx; an orbax folder; or the folder of a run of `train.classifier`.

    Returns:
        The arrays as they are in the file: dtype (bfloat16 as `ml_dtypes.bfloat16`) and axis order are kept,
        and so are integer entries such as `num_batches_tracked`. Those of torch files are read-only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of no known kind, is damaged, or holds anything but arrays; names the file.
        ModuleNotFoundError: a Keras file, and h5py is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "weights.npz")
        >>> np.savez(file, **{"fc.weight": np.ones((2, 3), np.float32)})
        >>> {name: array.shape for name, array in read_weights(file).items()}
        {'fc.weight': (2, 3)}
    """
    path = Path(path)
    if path.is_dir():
        return _strip_module(_read_orbax(_of_run(path)))
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_HDF5_MAGIC):
        from mlfem_jax.backbones.files.keras_file import read_keras_file

        return read_keras_file(path)
    if path.suffix == ".onnx":  # the one kind whose content does not tell
        from mlfem_jax.backbones.files.onnx_file import read_onnx_file

        return read_onnx_file(path)
    if LEGACY_MAGIC in head[:24]:
        return _strip_module(read_torch_file(path))
    if zipfile.is_zipfile(path):
        return _strip_module(_read_npz(path) if _is_npz(path) else read_torch_file(path))
    if head.startswith(b"PK"):
        raise ValueError(f"{path}: a zip file that is damaged or cut short")
    if head[8:9] == b"{":
        return _strip_module(_read_safetensors(path))
    raise ValueError(f"{path}: expected {_KINDS}; found a file that begins {head[:16]!r}")


def read_labels(path: str | Path) -> tuple[str, ...]:
    """The names of the classes of a network that `train.classifier` trained, in the order of its logits.

    Args:
        path: as for `read_weights`.

    Returns:
        The names; none for any other weight file.

    Example:
        >>> read_labels("/nowhere/weights.npz")
        ()
    """
    file = _of_run(Path(path)) / LABELS
    return tuple(json.loads(file.read_bytes())["labels"]) if file.is_file() else ()


def check_weights(found: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], *, source: str | Path) -> None:
    """Nothing where `found` has exactly the arrays that a network expects; else one error that lists all.

    Entries called `num_batches_tracked`, a counter of torch's training, are ignored.

    Args:
        found: arrays by name, as `read_weights` returns them.
        expected: the shape of each array that the network needs, by name.
        source: the file, for the message.

    Raises:
        ValueError: names the missing, the extra and the misshapen entries, the first ten of each kind.

    Example:
        >>> check_weights({"fc.weight": np.ones((2, 3))}, {"fc.weight": (2, 3)}, source="a.npz")
        >>> check_weights({"w": np.ones(2)}, {"w": (3,), "b": (3,)}, source="a.npz")
        Traceback (most recent call last):
        ValueError: a.npz does not fit the network:
          1 missing: b
          1 of another shape: w (expected (3,), found (2,))
    """
    extra = [name for name in found if name not in expected and name.split(".")[-1] != "num_batches_tracked"]
    misshapen = [
        f"{name} (expected {shape}, found {found[name].shape})"
        for name, shape in expected.items()
        if name in found and found[name].shape != tuple(shape)
    ]
    kinds = {
        "missing": [name for name in expected if name not in found],
        "not expected": extra,
        "of another shape": misshapen,
    }
    lines = [f"\n  {len(names)} {kind}: {_listing(names)}" for kind, names in kinds.items() if names]
    if lines:
        raise ValueError(f"{source} does not fit the network:{''.join(lines)}")


def save_weights(folder: str | Path, arrays: Mapping[str, Any]) -> None:
    """Nothing; writes the arrays to a new orbax folder, which `read_weights` reads back.

    Args:
        folder: where to write; orbax writes beside it and renames, and refuses a folder that exists.
        arrays: arrays by name, in nested dicts if need be.
    """
    from mlfem_jax.files import own_checkpointer

    with own_checkpointer() as checkpointer:
        checkpointer.save(Path(folder).absolute(), dict(arrays))


def _of_run(path: Path) -> Path:
    """The weights in the folder of a run; any other path as it is."""
    return path / _OF_RUN if (path / _OF_RUN / LABELS).is_file() else path


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path}: not a readable .safetensors file ({error})") from error


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path}: a damaged zip file ({error})") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{path}: not a readable .npz file of arrays ({error})") from error
    odd = [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]
    if odd:
        raise ValueError(f"{path}: expected numbers, found {arrays[odd[0]].dtype} in {_listing(odd)}")
    return arrays


def _read_orbax(folder: Path) -> dict[str, np.ndarray]:
    import jax
    import orbax.checkpoint as ocp

    # A CheckpointManager or a composite save puts the arrays into a folder of this name.
    folder = folder / "default" if (folder / "default").is_dir() else folder
    if not (folder / "_METADATA").is_file():
        raise ValueError(f"{folder}: not an orbax folder (no _METADATA in it); expected {_KINDS}")
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(folder.absolute()).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        tree = checkpointer.restore(folder.absolute(), restore_args=as_numpy)
    return dict(_flatten(tree, folder))


def _flatten(tree: object, source: Path, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _flatten(value, source, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, np.ndarray | np.generic | int | float):
        yield prefix, np.asarray(tree)
    else:
        raise ValueError(f"{source}: entry {prefix!r} is a {type(tree).__name__}, not an array")


def _strip_module(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not all(name.startswith("module.") for name in arrays):
        return arrays
    return {name.removeprefix("module."): array for name, array in arrays.items()}


def _listing(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f", and {more} more" if more > 0 else "")
