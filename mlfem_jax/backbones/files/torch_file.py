"""Reads the tensors of a `torch.save` file, of the zip and of the legacy layout, without torch."""

import dataclasses
import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mlfem_jax.backbones.files.inert_pickle import RefusedError, ordered_dict, read_pickle

# The pickle of the number that opens a legacy file, behind its protocol byte.
LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
_LEGACY_PROTOCOL = 1001
_MAX_RANK = 32
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_ADVICE = "A whole model or training state? Save its weights: torch.save(model.state_dict(), file)"

# Both layouts store little-endian elements (a zip made elsewhere says so in its member "byteorder").
_STORAGE_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclasses.dataclass(frozen=True)
class _Storage:
    dtype: np.dtype
    key: str
    length: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict that `torch.save` wrote, by name; nothing in the file is executed.

    A state dict inside a dict, under "state_dict", "model_state_dict" or "model", is unwrapped.

    Args:
        path: a `.pth` or `.pt` file of either layout.

    Returns:
        Read-only arrays in the dtypes of the file (bfloat16 as `ml_dtypes.bfloat16`).

    Raises:
        ValueError: it holds anything but tensors and plain containers, or is damaged; names the file.
    """
    try:
        content, buffers = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        return {name: _array(name, value, buffers) for name, value in _state_dict(content).items()}
    except RefusedError as error:
        raise ValueError(f"{path}: {error}. {_ADVICE}") from error
    except (ValueError, OverflowError, RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable torch file: {error}") from error


def _read_zip(path: Path) -> tuple[object, Callable[[_Storage], memoryview]]:
    archive = _members(path)
    roots = [name.removesuffix("data.pkl") for name in archive if name.endswith("data.pkl")]
    if len(roots) != 1:
        raise ValueError(f"expected one member data.pkl as torch.save writes, found {len(roots)}")
    root = roots[0]
    if archive.get(f"{root}byteorder", b"little") != b"little":
        raise ValueError("it was written by a big-endian machine, which is not read")

    def buffer(storage: _Storage) -> memoryview:
        name = f"{root}data/{storage.key}"
        if name not in archive:
            raise ValueError(f"it lacks the member {name!r} that a tensor names")
        return memoryview(archive[name])

    return read_pickle(io.BytesIO(archive[f"{root}data.pkl"]), _NAMES, _persistent), buffer


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        # torch.save stores members as they are: together they fit in the file, and no bomb does.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its members are compressed, which torch.save never does")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("its members declare more bytes than the file has")
        return {member.filename: archive.read(member) for member in members}


def _read_legacy(path: Path) -> tuple[object, Callable[[_Storage], memoryview]]:
    data = path.read_bytes()
    stream = io.BytesIO(data)
    read_pickle(stream, {})  # the magic number, which told this layout
    protocol = read_pickle(stream, {})
    if protocol != _LEGACY_PROTOCOL:
        raise ValueError(f"expected protocol {_LEGACY_PROTOCOL} of the legacy layout, found another")
    read_pickle(stream, {})  # the writer's byte order and integer sizes, which do not change what it wrote
    storages: dict[str, _Storage] = {}

    def persistent(identity: object) -> _Storage:
        storage = _persistent(identity)
        return storages.setdefault(storage.key, storage)

    content = read_pickle(stream, _NAMES, persistent)
    keys = read_pickle(stream, {})
    views = _legacy_buffers(memoryview(data), stream.tell(), keys, storages)

    def buffer(storage: _Storage) -> memoryview:
        if storage.key not in views:
            raise ValueError(f"it lacks the storage {storage.key!r:.50} that a tensor names")
        return views[storage.key]

    return content, buffer


def _legacy_buffers(
    data: memoryview, position: int, keys: object, storages: Mapping[str, _Storage]
) -> dict[str, memoryview]:
    views = {}
    for key in keys if isinstance(keys, list) else [keys]:
        if not isinstance(key, str) or key not in storages:
            raise ValueError("it stores what no tensor names")
        if position + 8 > len(data):
            raise ValueError("it ends before its last storage")
        (length,) = struct.unpack_from("<q", data, position)
        end = position + 8 + length * storages[key].dtype.itemsize
        if length < 0 or end > len(data):
            raise ValueError(f"it ends inside of a storage of {length} elements")
        views[key] = data[position + 8 : end]
        position = end
    return views


def _persistent(identity: object) -> _Storage:
    match identity:
        case ("storage", np.dtype() as dtype, str(key), _, int(length), *view) if length >= 0:
            if any(part is not None for part in view):
                raise ValueError("it has views of storages, which torch stopped writing in 2017")
            return _Storage(dtype, key, length)
    raise ValueError("it has a persistent id that is no storage; refused, and nothing in it was run")


def _tensor(storage: object, offset: object, size: object, stride: object, *rest: object) -> _Tensor:
    # rest: requires_grad, backward hooks, and flags (conjugate, negative) that would change the values.
    if not isinstance(storage, _Storage) or any(rest[2:]):
        raise ValueError("it has a tensor of a kind that is not read")
    size, stride, (start,) = _integers(size), _integers(stride), _integers((offset,))
    if len(size) != len(stride):
        raise ValueError("it has a tensor whose size and stride differ in length")
    return _Tensor(storage, start, size, stride)


def _integers(values: object) -> tuple[int, ...]:
    # Found values are not shown: a few bytes of pickle can hold a list that prints without end.
    if not isinstance(values, tuple) or len(values) > _MAX_RANK:
        raise ValueError("it has a tensor whose size or stride is no short tuple")
    if not all(type(value) is int and 0 <= value < 2**63 for value in values):
        raise ValueError("it has a tensor whose offset, size or stride is no natural number")
    return values


def _parameter(tensor: object, *_: object) -> object:
    return tensor


_NAMES: dict[str, object] = {
    "collections.OrderedDict": ordered_dict,
    "torch.Size": lambda values: values,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    **{f"torch.{name}": dtype for name, dtype in _STORAGE_DTYPES.items()},
    **{f"torch.cuda.{name}": dtype for name, dtype in _STORAGE_DTYPES.items()},
}


def _state_dict(content: object) -> dict[str, object]:
    if isinstance(content, dict):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"expected a state dict (tensors by name), found a {type(content).__name__}")
    return content


def _array(name: str, value: object, buffer: Callable[[_Storage], memoryview]) -> np.ndarray:
    if isinstance(value, bool | int | float) and np.asarray(value).dtype != object:
        return np.asarray(value)
    if not isinstance(value, _Tensor):
        raise ValueError(f"its entry {name!r:.80} is a {type(value).__name__}, not a tensor")
    storage = value.storage
    data = buffer(storage)
    if len(data) != storage.length * storage.dtype.itemsize:
        raise ValueError(f"{name!r:.80}: {len(data)} bytes are there, expected {storage.length} {storage.dtype}")
    elements = math.prod(value.size)
    last = value.offset + sum((n - 1) * step for n, step in zip(value.size, value.stride, strict=True))
    if elements > storage.length or (elements and last >= storage.length):
        raise ValueError(f"{name!r:.80} reaches outside of its storage of {storage.length} elements")
    if not elements:
        return np.zeros(value.size, storage.dtype)
    strides = [step * storage.dtype.itemsize for step in value.stride]
    flat = np.frombuffer(data, storage.dtype)[value.offset :]
    return np.lib.stride_tricks.as_strided(flat, value.size, strides, writeable=False)
