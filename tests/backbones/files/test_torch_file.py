"""Hostile torch files: nothing in them runs, nothing outside them is read, and the error names the file."""

import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mlfem_jax.backbones.files.read import read_weights
from tests.test_messages import in_form

GOLDEN = Path(__file__).parents[2] / "golden"
MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
FLOATS = b"ctorch\nFloatStorage\n"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(length, key="0", kind=FLOATS):
    return b"(" + text("storage") + kind + text(key) + text("cpu") + integer(length) + b"tQ"


def tensor(offset, size, stride, length=4, key="0"):
    """The opcodes of one tensor over a storage that declares `length` elements."""
    function = b"ctorch._utils\n_rebuild_tensor_v2\n"
    flags = b"\x89ccollections\nOrderedDict\n)R"
    return function + b"(" + storage(length, key) + integer(offset) + integers(size) + integers(stride) + flags + b"tR"


def entry(value, name="w"):
    """The pickle of a dict with one entry."""
    return b"\x80\x02}" + text(name) + value + b"s."


def write_zip(path, content, stored=bytes(16), compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", stored)
        for name, member in members.items():
            archive.writestr(f"archive/{name}", member)
    return path


def write_legacy(path, content, protocol=b"\x80\x02M\xe9\x03.", info=b"\x80\x02}.", magic=MAGIC + b".", keys=None):
    keys = b"\x80\x02]" + text("0") + b"a." if keys is None else keys
    path.write_bytes(magic + protocol + info + content + keys + struct.pack("<q", 4) + bytes(16))
    return path


def refused(path, match=""):
    with pytest.raises(ValueError, match=rf"(?s){path.name}.*{match}") as error:
        read_weights(path)
    assert in_form(str(error.value))


WRITERS = pytest.mark.parametrize("write", [write_zip, write_legacy])


@WRITERS
def test_handmade_file_is_read(tmp_path, write):
    # Guards the tests below: what they change is the only thing wrong with their files.
    path = write(tmp_path / "a.pth", entry(tensor(1, [3], [1])))
    np.testing.assert_array_equal(read_weights(path)["w"], np.zeros(3, np.float32))


@WRITERS
@pytest.mark.parametrize(
    ("offset", "size", "stride", "length"),
    [
        (0, [5], [1], 4),
        (1, [4], [1], 4),
        (4, [1], [1], 4),
        (0, [2], [4], 4),
        (0, [2, 2], [3, 1], 4),
        (0, [2], [2**62], 4),
        (2**62, [1], [1], 4),
        (-1, [1], [1], 4),
        (3, [4], [-1], 4),
        (0, [-1], [1], 4),
        (0, [2**62], [0], 4),
        (0, [2**31, 2**31, 2**31], [0, 0, 0], 4),
        (0, [0, 2**62, 2**62], [1, 1, 1], 4),
        (0, [1], [1, 1], 4),
        (0, [1] * 40, [1] * 40, 4),
        (0, [5], [1], 5),
        (0, [1], [1], 2**62),
        (0, [1], [1], -1),
    ],
)
def test_tensor_outside_of_its_storage(tmp_path, write, offset, size, stride, length):
    refused(write(tmp_path / "a.pth", entry(tensor(offset, size, stride, length))))


def attacks(folder):
    """Pickles, by name, that make `folder` or call something; all end behind their own opcodes."""

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(folder),)

    class Evaluate:
        def __reduce__(self):
            return eval, (f"__import__('os').mkdir({str(folder)!r})",)

    mkdir = b"cposix\nmkdir\n"
    argument = text(str(folder)) + b"\x85"
    return {
        "system": pickle.dumps(Attack(), 2),
        "stack_global": pickle.dumps(Attack(), 4),
        "eval": pickle.dumps(Evaluate(), 2),
        "nested": pickle.dumps({"state_dict": {"w": [Attack()]}}, 2),
        "inst": b"\x80\x02(" + text(str(folder)) + b"iposix\nmkdir\n.",
        "obj": b"\x80\x02(" + mkdir + text(str(folder)) + b"o.",
        "newobj": b"\x80\x02" + mkdir + argument + b"\x81.",
        "build": b"\x80\x02ccollections\nOrderedDict\n)R}" + text("x") + mkdir + argument + b"Rsb.",
        "dotted": b"\x80\x04" + text("collections") + text("OrderedDict.__init__") + b"\x93" + argument + b"R.",
        "build_function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}" + text("__code__") + b"Nsb.",
        "call_of_text": b"\x80\x02" + text("os.mkdir") + argument + b"R.",
        "persistent": b"\x80\x02(" + text("storage") + mkdir + text("0") + text("cpu") + b"K\x04tQ.",
        "persistent_module": b"\x80\x02(" + text("module") + mkdir + text("f") + text("s") + b"tQ.",
        "persistent_text": b"Pposix.mkdir\n.",
        "extension": b"\x80\x02\x82\x01.",
        "storage_call": entry(FLOATS + argument + b"R"),
    }


@WRITERS
@pytest.mark.parametrize("name", attacks("."))
def test_attack_is_refused_and_nothing_runs(tmp_path, write, name):
    ran = tmp_path / "ran"
    refused(write(tmp_path / "a.pth", attacks(ran)[name]))
    assert not ran.exists()


@pytest.mark.parametrize("name", ["system", "stack_global", "eval", "nested", "inst", "obj"])
def test_attacks_work_on_plain_pickle(tmp_path, name):
    pickle.loads(attacks(tmp_path / "ran")[name])
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", ["magic", "protocol", "info", "keys"])
@pytest.mark.parametrize("name", ["system", "eval", "inst"])
def test_attack_in_a_legacy_header(tmp_path, part, name):
    attack = attacks(tmp_path / "ran")[name]
    # The magic number must stay in front for the file to count as one of torch's.
    parts = {part: MAGIC + b"0" + attack[2:] if part == "magic" else attack}
    refused(write_legacy(tmp_path / "a.pth", entry(tensor(0, [1], [1])), **parts), "refused")
    assert not (tmp_path / "ran").exists()


def doubling_list(levels=60):
    """A list of 2**levels items in a few hundred bytes: whoever prints or copies it does not come back."""
    content = b"]"
    for level in range(levels):
        place = struct.pack("<I", level)
        content = b"](" + content + b"r" + place + b"j" + place + b"e"
    return content


@pytest.mark.parametrize("part", ["content", "protocol", "info", "keys"])
def test_endless_list(tmp_path, part):
    parts = {"content": entry(doubling_list())} | {part: b"\x80\x02" + doubling_list() + b"."}
    refused(write_legacy(tmp_path / "a.pth", **parts))


@WRITERS
@pytest.mark.parametrize(
    "content",
    [
        entry(b"]" * 10_000),
        b"\x80\x02}" + b")" + b"\x85" * 10_000 + b"Ns.",
        b"\x80\x02" + b"(" * 10_000 + b".",
        b"\x80\x02Nr\xff\xff\xff\x7f0}.",
        b"\x80\x02B\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
        b"\x80\x02}q\0" + text("state_dict") + b"h\0s.",
        b"\x80\x02h\x05.",
        b"\x80\x02.",
        entry(text("no tensor")),
        entry(integer(2**100)),
        entry(doubling_list()),
        entry(tensor(0, [1], [1])[:-2] + doubling_list() + b"tR"),
        b"\x80\x02}K\x01" + tensor(0, [1], [1]) + b"s.",
        b"\x80\x02" + tensor(0, [1], [1]) + b".",
        entry(tensor(0, [1], [1], key="../../secret")),
        entry(b"ctorch\nComplexFloatStorage\n"),
    ],
    ids=range(17),
)
def test_odd_pickle(tmp_path, write, content):
    refused(write(tmp_path / "a.pth", content))


def test_zip_of_another_kind(tmp_path):
    good = entry(tensor(0, [4], [1]))
    refused(write_zip(tmp_path / "big.pth", good, byteorder=b"big"), "big-endian")
    refused(write_zip(tmp_path / "packed.pth", good, compression=zipfile.ZIP_DEFLATED), "compressed")
    refused(write_zip(tmp_path / "short.pth", good, stored=bytes(12)), "expected 4 float32")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    refused(tmp_path / "other.pth", "data.pkl")


def test_overlapping_members_are_refused(tmp_path):
    # Directory entries that all point at one member would be read again and again.
    path = write_zip(tmp_path / "a.pth", entry(tensor(0, [4], [1])), stored=bytes(5000))
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist.extend([archive.getinfo("archive/data/0")] * 50)
        archive.comment = b"written anew"  # makes zipfile write its directory
    refused(path, "more bytes")


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_any_changed_byte_gives_arrays_or_an_error(tmp_path, kind):
    whole = (GOLDEN / f"torch_{kind}.pth").read_bytes()
    path, rng = tmp_path / "a.pth", random.Random(0)
    for _ in range(120):
        changed = bytearray(whole)
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            arrays = read_weights(path)
        except ValueError as error:
            assert "a.pth" in str(error)
        else:
            assert all(np.asarray(array).tobytes() is not None for array in arrays.values())
