"""What a file declares is not believed: little is taken before it is known to be there, in every format."""

import json
import os
import struct
import subprocess
import time
import zipfile
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax.backbones.files import hdf5_process
from mlfem_jax.backbones.files.read import read_weights, save_weights
from tests.backbones.files.test_torch_file import FLOATS, doubling_list, entry, tensor, text, write_zip
from tests.campaigns import weights
from tests.test_messages import in_form

h5py = pytest.importorskip("h5py")
HUGE = 10**10


def refused(path, match=""):
    start = time.process_time()
    with pytest.raises(ValueError, match=rf"(?s)^{path}: .*{match}") as error:
        read_weights(path)
    assert len(str(error.value)) < 2000 and "\n" not in str(error.value) and in_form(str(error.value))
    assert time.process_time() - start < 5


def npy(shape, dtype="<f4", data=b""):
    header = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def npz(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def keras(path, make):
    """A Keras 3 file whose group "dense/vars" is filled by `make`."""
    with h5py.File(path, "w") as file:
        make(file.create_group("layers/dense/vars"))
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((HUGE,)), "got 4000000000[04] declared"),
        (npy((2**40, 2**40)), "declared"),
        (npy((-1,)), "expected a shape"),
        (npy((3,), data=bytes(8)), "expected the 12 bytes of its header, got 8"),
        (npy((1,), data=bytes(8)), "expected the 4 bytes of its header, got 8"),
        (npy((1,), "|O", bytes(8)), "expected numbers, got object"),
        (npy((1,), "|V2", bytes(2)), "expected numbers"),
        (npy((1,), "('a" * 30, bytes(2)), "expected an array, got another beginning"),
        (b"\x93NUMPY\1\0\xff\xff", "expected an array, got another beginning"),
        (b"\x93NUMPY\x09\0" + bytes(80), "expected an array, got another beginning"),
        (b"hello", "expected an array, got another beginning"),
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_npz_headers(tmp_path, content, message, compression):
    refused(npz(tmp_path / "a.npz", {"good.npy": npy((1,), data=bytes(4)), "w.npy": content}, compression),
            message if "declared" not in message or compression == zipfile.ZIP_STORED else "declared")  # fmt: skip


def test_npz_members(tmp_path):
    good = npy((1,), data=bytes(4))
    refused(npz(tmp_path / "other.npz", {"a.npy": good, "readme.txt": b"text"}), "readme.txt: expected an array")
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        refused(npz(tmp_path / "packed.npz", {"a.npy": good}, method), "expected stored or deflated, got compression")
    with pytest.warns(UserWarning, match="Duplicate"):
        with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
            archive.writestr("a.npy", good)
            archive.writestr("a.npy", good)
    refused(tmp_path / "twice.npz", "one name")
    data = bytearray(npz(tmp_path / "encrypted.npz", {"a.npy": good}).read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "encrypted.npz").write_bytes(data)
    refused(tmp_path / "encrypted.npz", "encrypted")
    refused(npz(tmp_path / "none.npz", {}))


def test_npz_bomb(tmp_path):
    # 1 GB of zeros in 1 MB, honestly declared: more than a compressed file may unfold to.
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("w.npy", "w") as member:
            member.write(npy((2**20,), data=b""))
            for _ in range(4):
                member.write(bytes(2**20))
    read_weights(path)  # 4 MB are no bomb
    refused(npz(path, {f"w{i}.npy": npy((2**27,)) for i in range(3)}, zipfile.ZIP_DEFLATED), "at most 671088640")


def test_a_member_that_the_directory_lost(tmp_path):
    # The count, the size of the directory, or an entry: what is not accounted for is not left out in silence.
    good = npy((1,), data=bytes(4))
    whole = npz(tmp_path / "a.npz", {"a.npy": good, "b.npy": good, "c.npy": good}).read_bytes()
    entries = [at for at in range(len(whole)) if whole[at : at + 4] == b"PK\1\2"]
    length = entries[1] - entries[0]
    end = whole.index(b"PK\5\6")
    for lost in entries:
        cut = bytearray(whole[:lost] + whole[lost + length :])
        at = end - length
        cut[at + 8 : at + 12] = struct.pack("<HH", 2, 2)
        cut[at + 12 : at + 16] = struct.pack("<L", end - entries[0] - length)
        (tmp_path / "lost.npz").write_bytes(cut)
        with zipfile.ZipFile(tmp_path / "lost.npz") as archive:
            assert len(archive.namelist()) == 2
        refused(tmp_path / "lost.npz", "account")
    fewer = bytearray(whole)
    fewer[end + 8 : end + 12] = struct.pack("<HH", 2, 2)
    (tmp_path / "fewer.npz").write_bytes(fewer)
    refused(tmp_path / "fewer.npz", "the 2 members announced in its zip directory, got 3")
    fewer[end + 8 : end + 12] = struct.pack("<HH", 3, 3)
    fewer[end + 4 : end + 6] = b"\1\0"
    (tmp_path / "disks.npz").write_bytes(fewer)
    refused(tmp_path / "disks.npz", "several disks")


def test_safetensors(tmp_path):
    def write(**pieces):
        header = json.dumps(pieces).encode()
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(range(8)))
        return tmp_path / "a.safetensors"

    offsets = {"data_offsets": [0, 8]}
    for kind, dtype in {
        "F8_E4M3": jnp.float8_e4m3fn,
        "F8_E5M2": jnp.float8_e5m2,
        "F8_E8M0": jnp.float8_e8m0fnu,
    }.items():
        found = read_weights(write(w={"dtype": kind, "shape": [2, 4], **offsets}))["w"]
        assert found.dtype == dtype and found.shape == (2, 4) and found.tobytes() == bytes(range(8))
    for kind, shape in (("F4", [16]), ("C64", [1]), ("F6_E2M3", [8])):
        refused(write(w={"dtype": kind, "shape": shape, **offsets}))
    refused(write(w={"dtype": "F32", "shape": [HUGE], **offsets}))
    refused(write())
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}")
    refused(tmp_path / "a.safetensors", "header")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: g.create_dataset("0", (HUGE,), "f4"), "declared"),
        (lambda g: g.create_dataset("0", (HUGE,), "f4", chunks=(2**20,)), "declared"),
        (lambda g: g.create_dataset("0", (2**20,), "f4", chunks=(2**10,), compression="gzip"), "got 0"),
        (lambda g: g.create_dataset("0", (4,), "f4", fillvalue=1), "got 0"),
        (lambda g: g.create_dataset("0", data=h5py.Empty("f4")), "expected numbers, got no values"),
        (lambda g: g.create_dataset("0", data=np.ones(8), compression="lzf"), "filters"),
        (lambda g: g.create_dataset("0", data=b"text"), "expected numbers"),
        (lambda g: g.__setitem__("0", h5py.SoftLink("/layers")), "link"),
        (lambda g: g.__setitem__("0", g), "two places"),
        (lambda g: [g := g.create_group("g") for _ in range(2000)], "deeper"),
    ],
)
def test_hdf5_declares_more_than_it_holds(tmp_path, make, message):
    refused(keras(tmp_path / "a.weights.h5", make), message)


def test_hdf5_chunk_bomb(tmp_path):
    import zlib

    def make(group):
        dataset = group.create_dataset("0", (16,), "f4", chunks=(16,), compression="gzip")
        dataset.id.write_direct_chunk((0,), zlib.compress(bytes(2**26), 1))

    refused(keras(tmp_path / "a.weights.h5", make), "chunks that unfold to 64 bytes, got one that does not")


def test_hdf5_virtual_datasets(tmp_path):
    # Another file's values, and a dataset that is made of itself, which crashes HDF5 when it is read.
    keras(tmp_path / "other.weights.h5", lambda g: g.create_dataset("0", data=np.ones(4, "f4")))
    for source in (str(tmp_path / "other.weights.h5"), "."):

        def make(group, source=source):
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(source, "layers/dense/vars/0", (4,))
            group.create_virtual_dataset("0", layout)

        refused(keras(tmp_path / "a.weights.h5", make), "another file or dataset")


def test_wide_and_compressed_hdf5_is_read(tmp_path):
    def make(group):
        for index in range(300):
            group.create_dataset(str(index), data=np.full((5, 3), index, "f4"), chunks=(2, 2), compression="gzip",
                                 shuffle=True)  # fmt: skip

    file = keras(tmp_path / "a.weights.h5", make)
    start = time.process_time()
    found = read_weights(file)
    assert len(found) == 300 and (found["dense/7"] == 7).all()
    assert time.process_time() - start < 5


def test_torch_names_that_print_without_end(tmp_path):
    for names in (doubling_list() + text("x"), text("x") + doubling_list(), b"K\1K\1"):
        refused(write_zip(tmp_path / "a.pth", b"\x80\x04" + names + b"\x93."), "cannot be")
    refused(write_zip(tmp_path / "a.pth", entry(FLOATS, "a" * 2_000_000)))
    refused(write_zip(tmp_path / "a.pth", b"\x80\x02c" + b"a" * 2_000_000 + b"\nb\n."), "refused")


def test_torch_pickles_that_take_long(tmp_path):
    many = b"]q\0(" + b"(NNt" * 20_000 + b"e"
    calls = b"ccollections\nOrderedDict\nq\1" + b"h\1h\0\x85R0" * 20_000
    refused(write_zip(tmp_path / "calls.pth", b"\x80\x02" + many + calls + b"}."), "")
    nested = b"}q\0"
    for level in range(60):  # a dict of two dicts of two dicts: 2**60 entries
        at = struct.pack("<I", level)
        nested += b"}r" + struct.pack("<I", level + 1) + text("a") + b"j" + at + b"s" + text("b") + b"j" + at + b"s"
    refused(write_zip(tmp_path / "dicts.pth", b"\x80\x02" + nested + b"."), "dicts in dicts")


@pytest.fixture
def orbax_folder(tmp_path):
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer(use_ocdbt=False) as checkpointer:
        checkpointer.save(tmp_path / "zarr", {"w": np.arange(6.0), "b": np.ones(2, np.float32)})
    return tmp_path / "zarr"


def change_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.filterwarnings("ignore")
def test_orbax_declares_more_than_it_holds(orbax_folder):
    assert read_weights(orbax_folder)["w"].tolist() == list(range(6))
    sound = (orbax_folder / "w" / ".zarray").read_text()
    for changes in ({"shape": [100_000, 100_000], "chunks": [100_000, 100_000]}, {"shape": [2**62], "chunks": [2**62]},
                    {"chunks": [2**34]}, {"shape": [12]}, {"dtype": "|S8"}, {"shape": []}):  # fmt: skip
        (orbax_folder / "w" / ".zarray").write_text(sound)
        change_json(orbax_folder / "w" / ".zarray", **changes)
        refused(orbax_folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"{" * 10**5, b'{"tree_metadata": 3}', b"\xff\xfe", b'{"a":' * 10**5,
     b'{"tree_metadata": {"w": {"key_metadata": [], "value_metadata": null}}}'],
    ids=range(8),
)  # fmt: skip
def test_orbax_metadata_of_another_kind(orbax_folder, content):
    (orbax_folder / "_METADATA").write_bytes(content)
    refused(orbax_folder)


@pytest.mark.filterwarnings("ignore")
def test_orbax_reads_nothing_outside(orbax_folder, tmp_path):
    metadata = (orbax_folder / "_METADATA").read_text()
    (orbax_folder / "w").rename(tmp_path / "outside")
    for key in (str(tmp_path / "outside"), "../outside", "../../" + str(tmp_path) + "/outside"):
        (orbax_folder / "_METADATA").write_text(metadata.replace('"w"', json.dumps(key)))
        refused(orbax_folder)
    (orbax_folder / "_METADATA").write_text(metadata)
    (orbax_folder / "w").symlink_to(tmp_path / "outside")
    refused(orbax_folder, "links, pipes and devices")
    (orbax_folder / "w").unlink()
    (orbax_folder / "w").mkdir()
    os.mkfifo(orbax_folder / "w" / ".zarray")
    refused(orbax_folder, "links, pipes and devices")


def test_a_lost_file_of_an_orbax_folder(tmp_path):
    save_weights(tmp_path / "w", {"w": np.zeros(3), "b": np.ones((2, 2))})
    assert read_weights(tmp_path / "w").keys() == {"w", "b"}
    for file in sorted(path for path in (tmp_path / "w").rglob("*") if path.is_file() and path.parent.name == "d"):
        content = file.read_bytes()
        file.unlink()
        try:
            found = read_weights(tmp_path / "w")  # a node of an older state is needed by nobody
            assert (found["b"] == 1).all() and (found["w"] == 0).all()
        except ValueError as error:
            assert str(tmp_path / "w") in str(error)
        file.write_bytes(content)


def test_pipes_and_devices(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    refused(tmp_path / "pipe.pth", "pipe or device")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    refused(tmp_path / "zero.npz", "pipe or device")


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    with pytest.raises(ValueError) as error:
        read_weights(npz(tmp_path / "a.npz", {"\x1b[2J.npy": b"hello"}))
    assert "\x1b" not in str(error.value) and "x1b[2J" in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_a_slice_of_the_campaign(tmp_path):
    """`make campaigns` tries thousands, in processes with limits."""
    made = weights.seeds(tmp_path / "seeds", tmp_path / "ran")
    found = Counter()
    for kind, sources in made.items():
        for number in range(4 if kind == "h5" else 20):
            mutant = weights.make_mutant(sources, kind, number, tmp_path / f"{kind}{number}")
            found[weights.outcome(mutant)[0]] += 1
    assert found.total() == 144 and found.keys() == {"read", "refused"}
    assert not (tmp_path / "ran").exists()


def test_hdf5s_library_may_die(tmp_path, monkeypatch):
    # As of mutant 1214 of the campaign; where it does not end, neither.
    path = keras(tmp_path / "a.weights.h5", lambda g: g.create_dataset("0", data=np.ones(4, "f4")))
    assert read_weights(path)["dense/0"].tolist() == [1] * 4
    monkeypatch.setattr(hdf5_process.sys, "executable", "/bin/false")
    refused(path, "its library failed with status 1")
    monkeypatch.undo()
    monkeypatch.setattr(hdf5_process.subprocess, "run", lambda *_, **options: time_out(**options))
    refused(path, "does not come to an end")


def time_out(*, timeout, **_):
    raise subprocess.TimeoutExpired("python", timeout)


def test_a_hand_made_tensor_is_read(tmp_path):
    # Guards the refusals above.
    assert read_weights(write_zip(tmp_path / "a.pth", entry(tensor(0, [4], [1])))).keys() == {"w"}
