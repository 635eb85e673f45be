"""Reads the weights of an ONNX file without the package `onnx`: a file's arrays are all that is wanted of it.

The format is Protocol Buffers' wire format, of which a file of weights needs three kinds of field; `onnx` would bring
a compiler of graphs and protobuf's runtime for them. Nothing in the file is executed, and its arrays are views of the
mapped file: a number that lies about a size finds no memory to take.

Source: onnx.proto of ONNX 1.18 (field numbers); Protocol Buffers, Encoding.
"""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5  # of a model; of a graph
_INPUT, _NAME, _KIND = 1, 3, 4  # of a node
_DIMS, _TYPE, _FLOATS, _TENSOR_NAME, _RAW, _PLACE = 1, 2, 4, 8, 9, 14  # of a tensor
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DTYPES = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    10: np.dtype("<f2"),
    11: np.dtype("<f8"),
    16: np.dtype(jnp.bfloat16),
}

Value = int | memoryview


def read_onnx_file(path: Path) -> dict[str, np.ndarray]:
    """The weights of an ONNX file, by name.

    An exporter keeps the names of most parameters. Those that it folded have made-up ones ("onnx::MatMul_17"), and
    take that of the node that reads them first: the kernel of a MatMul called "/encoder/query/MatMul" is
    "encoder.query.weight", in PyTorch's layout (out, in); operand i of another node, "/embeddings/Concat_6", is
    "embeddings.Concat_6.i".

    Args:
        path: the file.

    Returns:
        Read-only arrays in the dtypes of the file.

    Raises:
        ValueError: no ONNX file, a damaged one, or one whose weights lie in other files; names the file.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        graphs = [value for field, value in _fields(content) if field == _GRAPH and isinstance(value, memoryview)]
        if len(graphs) != 1:
            raise ValueError(f"expected one graph, got {len(graphs)}")
        return _named(graphs[0])
    except ValueError as error:
        raise ValueError(f"expected a readable ONNX file, got another ({error})") from error


def _named(graph: memoryview) -> dict[str, np.ndarray]:
    parts: dict[int, list[memoryview]] = {_NODE: [], _INITIALIZER: []}
    for field, value in _fields(graph):
        if field in parts and isinstance(value, memoryview):
            parts[field].append(value)
    arrays = dict(_tensor(part) for part in parts[_INITIALIZER])
    if len(arrays) != len(parts[_INITIALIZER]):
        raise ValueError(
            f"expected one name for each array, got {len(parts[_INITIALIZER])} arrays under {len(arrays)} names"
        )
    for node in parts[_NODE]:
        inputs, name, kind = _node(node)
        for index, operand in enumerate(inputs):
            if operand.startswith("onnx::") and operand in arrays:
                array, module = arrays.pop(operand), name.strip("/").replace("/", ".")
                dense = kind == "MatMul" and index == 1 and array.ndim == 2
                arrays[f"{module.rpartition('.')[0]}.weight" if dense else f"{module}.{index}"] = (
                    array.T if dense else array
                )
    return arrays


def _node(node: memoryview) -> tuple[list[str], str, str]:
    """(names of its operands, name, kind of operation)."""
    texts: dict[int, list[str]] = {_INPUT: [], _NAME: [""], _KIND: [""]}
    for field, value in _fields(node):
        if field in texts and isinstance(value, memoryview):
            texts[field].append(str(value, "utf-8"))
    return texts[_INPUT], texts[_NAME][-1], texts[_KIND][-1]


def _tensor(tensor: memoryview) -> tuple[str, np.ndarray]:
    name, dims, dtype, raw = "", [], None, memoryview(b"")
    for field, value in _fields(tensor):
        if field == _DIMS:
            dims += list(_varints(value)) if isinstance(value, memoryview) else [value]
        elif field == _TYPE:
            dtype = _DTYPES.get(value) if isinstance(value, int) else None
            if dtype is None:
                raise ValueError(f"expected an array of a known type, got type {value!r:.40}")
        elif field in (_RAW, _FLOATS) and isinstance(value, memoryview):
            raw = value
        elif field == _TENSOR_NAME and isinstance(value, memoryview):
            name = str(value, "utf-8")
        elif field == _PLACE and value:
            raise ValueError("expected arrays in the file, got some that lie in other files")
    dtype = dtype or np.dtype("<f4")
    if len(dims) > 32 or math.prod(dims) * dtype.itemsize != len(raw):
        raise ValueError(f"{name!r:.80}: expected {math.prod(dims[:32])} {dtype}, got {len(raw)} bytes")
    return name, np.frombuffer(raw, dtype).reshape(dims)


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """(number, value) of every field of a message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
        elif kind in (_BYTES, _FIXED64, _FIXED32):
            length, position = (
                _varint(message, position) if kind == _BYTES else (8 if kind == _FIXED64 else 4, position)
            )
            value, position = message[position : position + length], position + length
        else:
            raise ValueError(f"expected a field of a known kind, got kind {kind}")
        if position > len(message):
            raise ValueError("expected a whole field, got an end within it")
        yield key >> 3, value


def _varints(packed: memoryview) -> Iterator[int]:
    position = 0
    while position < len(packed):
        value, position = _varint(packed, position)
        yield value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """(number, position behind it); seven bits a byte, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("expected a whole number, got an end within it")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("expected a number of at most ten bytes, got a longer one")
