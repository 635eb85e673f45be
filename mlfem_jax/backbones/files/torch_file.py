"""Reads the tensors of a `torch.save` file, of the zip and of the legacy layout, without torch."""

import dataclasses
import functools
import io
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mlfem_jax.backbones.files.inert_pickle import Inert, RefusedError, ordered_dict, read_pickle
from mlfem_jax.backbones.files.limits import DEPTH, ENTRIES, shown
from mlfem_jax.backbones.files.zip_file import open_zip

# The pickle of the number that opens a legacy file, behind its protocol byte.
LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
_LEGACY_PROTOCOL = 1001
_MAX_RANK = 32
# What holds the network where a checkpoint holds more; the first that is there.
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params"),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema"),
)
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

    A state dict inside a dict, under one of the usual names, is unwrapped. What is no tensor and no number is left out.

    Args:
        path: a `.pth` or `.pt` file of either layout.

    Returns:
        Read-only arrays in the dtypes of the file (bfloat16 as `ml_dtypes.bfloat16`).

    Raises:
        ValueError: it holds objects that are not known to be harmless, no tensor, or is damaged. Errors of `zipfile`
            pass: the caller names the file.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    try:
        return _read_zip(path) if zipped else _read_legacy(path)
    except RefusedError as error:
        raise ValueError(f"{error}. {_ADVICE}") from error


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    with open_zip(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"expected one member data.pkl as torch.save writes, found {len(roots)}")
        root = roots[0]
        # torch.save stores members as they are: together they fit in the file, and no bomb does.
        if any(member.compress_size != member.file_size or member.compress_type for member in members.values()):
            raise ValueError("its members are compressed, which torch.save never does")
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("it was written by a big-endian machine, which is not read")

        @functools.cache
        def buffer(key: str) -> memoryview:
            name = f"{root}data/{key}"
            if name not in members:
                raise ValueError(f"it lacks the member {shown(name)!r} that a tensor names")
            return memoryview(archive.read(name))

        content = read_pickle(io.BytesIO(archive.read(f"{root}data.pkl")), _NAMES, _persistent)
        return _arrays(content, buffer)


def _read_legacy(path: Path) -> dict[str, np.ndarray]:
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

    def buffer(key: str) -> memoryview:
        if key not in views:
            raise ValueError(f"it lacks the storage {shown(key)!r} that a tensor names")
        return views[key]

    return _arrays(content, buffer)


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


# Harmless objects that people keep beside their tensors. They are not made: an `Inert` takes the place of each.
_BESIDE = """
    argparse.Namespace types.SimpleNamespace collections.Counter collections.defaultdict collections.deque
    datetime.date datetime.datetime datetime.time datetime.timedelta datetime.timezone decimal.Decimal
    fractions.Fraction uuid.UUID pathlib.Path pathlib.PosixPath pathlib.WindowsPath pathlib.PurePosixPath
    pathlib.PureWindowsPath _codecs.encode copy_reg._reconstructor copyreg._reconstructor
    numpy.dtype numpy.ndarray numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct
    numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct numpy.core.numeric._frombuffer
    numpy._core.numeric._frombuffer torch.device torch.strided torch.contiguous_format torch.channels_last
    torch.serialization._get_layout torch.torch_version.TorchVersion
    pytorch_lightning.utilities.parsing.AttributeDict lightning_fabric.utilities.data.AttributeDict
    lightning.fabric.utilities.data.AttributeDict lightning.pytorch.utilities.parsing.AttributeDict
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig omegaconf.base.ContainerMetadata
    omegaconf.base.Metadata omegaconf.nodes.AnyNode typing.Any easydict.EasyDict addict.addict.Dict
    yacs.config.CfgNode box.box.Box
""".split()
_BUILTINS = "set frozenset complex range slice bytearray bytes list dict tuple int float str bool object".split()
_TORCH_DTYPES = """
    float16 float32 float64 half float double bfloat16 uint8 int8 int16 int32 int64 short int long bool complex64
    complex128
""".split()

_NAMES: dict[str, object] = {
    **{name: Inert(name) for name in _BESIDE},
    **{f"{module}.{name}": Inert(name) for module in ("builtins", "__builtin__") for name in _BUILTINS},
    **{f"torch.{name}": Inert(f"torch.{name}") for name in _TORCH_DTYPES},
    "collections.OrderedDict": ordered_dict,
    "torch.Size": lambda values: values,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    **{f"torch.{name}": dtype for name, dtype in _STORAGE_DTYPES.items()},
    **{f"torch.cuda.{name}": dtype for name, dtype in _STORAGE_DTYPES.items()},
}


def _arrays(content: object, buffer: Callable[[str], memoryview]) -> dict[str, np.ndarray]:
    entries = _state_dict(content)
    arrays = {name: _array(name, value, buffer) for name, value in entries.items() if _is_array(value)}
    if not any(isinstance(entry, _Tensor) for entry in entries.values()):
        kinds = ", ".join(sorted({getattr(value, "name", type(value).__name__) for value in entries.values()}))
        raise ValueError(f"expected tensors by name, found {shown(kinds) or 'none'}")
    return arrays


def _state_dict(content: object) -> dict[str, object]:
    """The entries of the network's dict; those of dicts in it by their names joined with "."."""
    for _ in range(DEPTH):
        if not isinstance(content, dict):
            raise ValueError(f"expected a state dict (tensors by name), found a {type(content).__name__}")
        inner = next((content[key] for key in _WRAPPERS if _holds_tensors(content.get(key))), None)
        if inner is None:
            return _flat(content)
        content = inner
    raise ValueError(f"dicts in dicts, deeper than {DEPTH}")


def _holds_tensors(content: object) -> bool:
    return isinstance(content, dict) and any(isinstance(value, _Tensor | dict) for value in content.values())


def _flat(content: dict) -> dict[str, object]:
    flat: dict[str, object] = {}
    waiting, left = [("", 0, content)], ENTRIES
    while waiting:
        prefix, depth, inner = waiting.pop()
        for key, value in inner.items():
            if (left := left - 1) < 0 or depth > DEPTH or len(prefix) > 1000:
                raise ValueError(f"dicts in dicts, deeper than {DEPTH} or with more than {ENTRIES} entries")
            if not isinstance(key, str) and isinstance(value, _Tensor):
                raise ValueError(f"a tensor is called by a {type(key).__name__}, expected a text")
            name = f"{prefix}{key if isinstance(key, str | int | float) else 'object'}"
            if isinstance(value, dict):
                waiting.append((f"{name}.", depth + 1, value))
            else:
                flat[name] = value
    return flat


def _is_array(value: object) -> bool:
    return isinstance(value, _Tensor) or (isinstance(value, int | float) and np.asarray(value).dtype != object)


def _array(name: str, value: object, buffer: Callable[[str], memoryview]) -> np.ndarray:
    if not isinstance(value, _Tensor):
        return np.asarray(value)
    storage, called = value.storage, repr(shown(name))
    data = buffer(storage.key)
    if len(data) != storage.length * storage.dtype.itemsize:
        raise ValueError(f"{called}: {len(data)} bytes are there, expected {storage.length} {storage.dtype}")
    elements = math.prod(value.size)
    last = value.offset + sum((n - 1) * step for n, step in zip(value.size, value.stride, strict=True))
    if elements > storage.length or (elements and last >= storage.length):
        raise ValueError(f"{called} reaches outside of its storage of {storage.length} elements")
    if not elements:
        return np.zeros(value.size, storage.dtype)
    strides = [step * storage.dtype.itemsize for step in value.stride]
    flat = np.frombuffer(data, storage.dtype)[value.offset :]
    return np.lib.stride_tricks.as_strided(flat, value.size, strides, writeable=False)
