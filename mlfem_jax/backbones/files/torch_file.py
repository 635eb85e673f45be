"""Reads the tensors of a `torch.save` file, of the zip and of the legacy layout, without torch."""

import functools
import io
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mlfem_jax.backbones.files.inert_pickle import read_pickle
from mlfem_jax.backbones.files.torch_pickle import NAMES, Storage, Tensor, persistent_storage
from mlfem_jax.files import DEPTH, ENTRIES, open_zip, shown

# The pickle of the number that opens a legacy file, behind its protocol byte.
LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
_LEGACY_PROTOCOL = 1001
# What holds the network where a checkpoint holds more; the first that is there.
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params"),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema"),
)


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
    return _read_zip(path) if zipped else _read_legacy(path)


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    with open_zip(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"expected one member data.pkl, as torch.save writes, got {len(roots)}")
        root = roots[0]
        # torch.save stores members as they are: together they fit in the file, and no bomb does.
        if any(member.compress_size != member.file_size or member.compress_type for member in members.values()):
            raise ValueError("expected members as torch.save writes them, got compressed ones")
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("expected a little-endian file, got one of a big-endian machine, which is not read")

        @functools.cache
        def buffer(key: str) -> memoryview:
            name = f"{root}data/{key}"
            if name not in members:
                raise ValueError(f"expected the member {shown(name)!r}, which a tensor names, got none")
            return memoryview(archive.read(name))

        content = read_pickle(io.BytesIO(archive.read(f"{root}data.pkl")), NAMES, persistent_storage)
        return _arrays(content, buffer)


def _read_legacy(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    stream = io.BytesIO(data)
    read_pickle(stream, {})  # the magic number, which told this layout
    protocol = read_pickle(stream, {})
    if protocol != _LEGACY_PROTOCOL:
        raise ValueError(f"expected protocol {_LEGACY_PROTOCOL} of the legacy layout, got another")
    read_pickle(stream, {})  # the writer's byte order and integer sizes, which do not change what it wrote
    storages: dict[str, Storage] = {}

    def persistent(identity: object) -> Storage:
        storage = persistent_storage(identity)
        return storages.setdefault(storage.key, storage)

    content = read_pickle(stream, NAMES, persistent)
    keys = read_pickle(stream, {})
    views = _legacy_buffers(memoryview(data), stream.tell(), keys, storages)

    def buffer(key: str) -> memoryview:
        if key not in views:
            raise ValueError(f"expected the storage {shown(key)!r}, which a tensor names, got none")
        return views[key]

    return _arrays(content, buffer)


def _legacy_buffers(
    data: memoryview, position: int, keys: object, storages: Mapping[str, Storage]
) -> dict[str, memoryview]:
    views = {}
    for key in keys if isinstance(keys, list) else [keys]:
        if not isinstance(key, str) or key not in storages:
            raise ValueError("expected storages that a tensor names, got another")
        if position + 8 > len(data):
            raise ValueError("expected all of its storages, got an end before the last")
        (length,) = struct.unpack_from("<q", data, position)
        end = position + 8 + length * storages[key].dtype.itemsize
        if length < 0 or end > len(data):
            raise ValueError(f"expected a storage of {length} elements, got an end inside of it")
        views[key] = data[position + 8 : end]
        position = end
    return views


def _arrays(content: object, buffer: Callable[[str], memoryview]) -> dict[str, np.ndarray]:
    entries = _state_dict(content)
    arrays = {name: _array(name, value, buffer) for name, value in entries.items() if _is_array(value)}
    if not any(isinstance(entry, Tensor) for entry in entries.values()):
        kinds = ", ".join(sorted({getattr(value, "name", type(value).__name__) for value in entries.values()}))
        raise ValueError(f"expected tensors by name, got {shown(kinds) or 'none'}")
    return arrays


def _state_dict(content: object) -> dict[str, object]:
    """The entries of the network's dict; those of dicts in it by their names joined with "."."""
    for _ in range(DEPTH):
        if not isinstance(content, dict):
            kind = getattr(content, "name", type(content).__name__)  # of an object that is left out
            raise ValueError(f"expected a state dict (tensors by name), got a {shown(kind)}")
        inner = next((content[key] for key in _WRAPPERS if _holds_tensors(content.get(key))), None)
        if inner is None:
            return _flat(content)
        content = inner
    raise ValueError(f"expected dicts in dicts at most {DEPTH} deep, got deeper ones")


def _holds_tensors(content: object) -> bool:
    return isinstance(content, dict) and any(isinstance(value, Tensor | dict) for value in content.values())


def _flat(content: dict) -> dict[str, object]:
    flat: dict[str, object] = {}
    waiting, left = [("", 0, content)], ENTRIES
    while waiting:
        prefix, depth, inner = waiting.pop()
        for key, value in inner.items():
            if (left := left - 1) < 0 or depth > DEPTH or len(prefix) > 1000:
                raise ValueError(
                    f"expected dicts in dicts at most {DEPTH} deep, with at most {ENTRIES} entries, got more"
                )
            if not isinstance(key, str) and isinstance(value, Tensor):
                raise ValueError(f"expected a text as the name of a tensor, got a {type(key).__name__}")
            name = f"{prefix}{key if isinstance(key, str | int | float) else 'object'}"
            if isinstance(value, dict):
                waiting.append((f"{name}.", depth + 1, value))
            else:
                flat[name] = value
    return flat


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, int | float) and np.asarray(value).dtype != object)


def _array(name: str, value: object, buffer: Callable[[str], memoryview]) -> np.ndarray:
    if not isinstance(value, Tensor):
        return np.asarray(value)
    storage, called = value.storage, repr(shown(name))
    data = buffer(storage.key)
    if len(data) != storage.length * storage.dtype.itemsize:
        raise ValueError(f"{called}: expected {storage.length} {storage.dtype}, got {len(data)} bytes")
    elements = math.prod(value.size)
    last = value.offset + sum((n - 1) * step for n, step in zip(value.size, value.stride, strict=True))
    if elements > storage.length or (elements and last >= storage.length):
        raise ValueError(f"{called}: expected elements of its storage of {storage.length}, got some outside of it")
    if not elements:
        return np.zeros(value.size, storage.dtype)
    strides = [step * storage.dtype.itemsize for step in value.stride]
    flat = np.frombuffer(data, storage.dtype)[value.offset :]
    return np.lib.stride_tricks.as_strided(flat, value.size, strides, writeable=False)
