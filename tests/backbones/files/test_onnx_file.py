"""ONNX files written byte by byte."""

import struct

import numpy as np
import pytest

from mlfem_jax.backbones.files.read import read_weights


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, array, *, packed=False, raw=True, dtype=1):
    dims = [field(1, b"".join(varint(n) for n in array.shape))] if packed else [field(1, n) for n in array.shape]
    return b"".join([*dims, field(2, dtype), field(8, name), field(9 if raw else 4, array.tobytes())])


def node(kind, name, inputs):
    return b"".join([*(field(1, one) for one in inputs), field(2, "out"), field(3, name), field(4, kind)])


def model(*tensors, nodes=()):
    graph = b"".join([*(field(1, one) for one in nodes), field(2, "main"), *(field(5, one) for one in tensors)])
    return field(1, 8) + field(2, "pytorch") + field(7, graph)


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "weights.onnx"
        path.write_bytes(content)
        return path

    return write


ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_arrays_come_back(file):
    half = ARRAY.astype(np.float16)
    content = model(
        tensor("a.weight", ARRAY), tensor("b", ARRAY, packed=True), tensor("c", ARRAY, raw=False),
        tensor("half", half, dtype=10), tensor("count", np.array(7, np.int64), dtype=7),
    )  # fmt: skip
    found = read_weights(file(content))
    for name in ("a.weight", "b", "c"):
        np.testing.assert_array_equal(found[name], ARRAY)
    assert found["half"].dtype == np.float16 and found["count"].shape == ()
    assert not found["b"].flags.writeable


def test_folded_arrays_take_the_name_of_what_reads_them(file):
    nodes = [
        node("MatMul", "/encoder/query/MatMul", ["x", "onnx::MatMul_1"]),
        node("Concat", "/embeddings/Concat_6", ["onnx::Concat_2", "y"]),
    ]
    content = model(tensor("onnx::MatMul_1", ARRAY), tensor("onnx::Concat_2", ARRAY), nodes=nodes)
    found = read_weights(file(content))
    assert sorted(found) == ["embeddings.Concat_6.0", "encoder.query.weight"]
    np.testing.assert_array_equal(found["encoder.query.weight"], ARRAY.T)  # (out, in)


def lying(dims):
    return b"".join([*(field(1, n) for n in dims), field(2, 1), field(8, "w"), field(9, ARRAY.tobytes())])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "cannot mmap an empty file"),
        (b"\x08", "expected a whole number, got an end within it"),
        (field(7, b"\x2a\x7f"), "expected a whole field, got an end within it"),
        (model() + model(), "expected one graph, got 2"),
        (field(1, 8), "expected one graph, got 0"),
        (b"\xff" * 11, "expected a number of at most ten bytes"),
        (b"\x0b", "a field of a known kind, got kind 3"),
        (model(lying((2, 2**40))), "'w': expected .* float32, got 24 bytes"),
        (model(lying([2**62] * 3)), "'w': expected .* float32, got 24 bytes"),
        (model(lying([1] * 40)), "'w': expected .* float32, got 24 bytes"),
        (model(tensor("w", ARRAY, dtype=8)), "an array of a known type, got type 8"),
        (model(tensor("w", ARRAY) + field(14, 1)), "some that lie in other files"),
        (model(tensor("w", ARRAY), tensor("w", ARRAY)), "2 arrays under 1 names"),
        (model(field(8, b"\xff\xfe")), "codec can't decode"),
    ],
)
def test_damaged_files_are_refused(file, content, what):
    path = file(content)
    with pytest.raises(ValueError, match=what) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path}: expected a readable ONNX file, got another")


def test_every_cut_of_a_file_is_refused_or_short_of_arrays(file):
    content = model(tensor("a", ARRAY), tensor("b", ARRAY))
    for end in range(len(content)):
        with pytest.raises(ValueError, match="expected a readable ONNX file, got another"):
            read_weights(file(content[:end]))


def test_fixed_width_fields_are_passed_over(file):
    content = varint(3 << 3 | 5) + struct.pack("<f", 1) + varint(4 << 3 | 1) + struct.pack("<d", 1)
    np.testing.assert_array_equal(read_weights(file(content + model(tensor("a", ARRAY))))["a"], ARRAY)
