"""Maps as files: found, counted, brought into the frame, and written as benchmarks take them."""

import numpy as np
import pytest
from PIL import Image

from mlfem_jax.data.maps import check_maps, find_maps, fits, read_map, write_map

pytest.importorskip("scipy", reason="needs SciPy")


def values(seed, shape=(6, 8)):
    return np.float32(np.random.default_rng(seed).random(shape))


@pytest.fixture
def folder(tmp_path):
    """One map in each form, one in a subfolder."""
    from scipy.io import savemat

    top = tmp_path / "maps"
    (top / "Action").mkdir(parents=True)
    np.save(top / "a.npy", values(0))
    savemat(top / "b.mat", {"map": values(1).astype(float)})
    Image.fromarray(np.uint8(np.rint(values(2) * 255))).save(top / "c.png")
    np.save(top / "Action" / "001.npy", values(3))
    return top


def test_every_form_is_read(folder):
    found = find_maps(str(folder))
    assert set(found) == {"a", "b", "c", "Action/001", "001"} and found["b"].shape == (6, 8)
    for image_id, seed, tolerance in (("a", 0, 0), ("b", 1, 1e-7), ("001", 3, 0), ("Action/001", 3, 0)):
        np.testing.assert_allclose(
            read_map(find_maps(str(folder)), image_id, (6, 8), (6, 8)), values(seed), atol=tolerance
        )
    np.testing.assert_array_equal(read_map(find_maps(str(folder)), "c", (6, 8), (6, 8)), np.rint(values(2) * 255))


def test_archives_as_pysaliency_writes_them(tmp_path):
    h5py = pytest.importorskip("h5py")
    np.savez(tmp_path / "maps.npz", a=values(0), b=values(1))
    with h5py.File(tmp_path / "maps.hdf5", "w") as file:
        file.create_dataset("ALLSTIMULI/a.jpeg", data=values(0))
        file.create_dataset("b.png", data=values(1))
        file.attrs["type"] = "SaliencyMapModel"
    for name in ("maps.npz", "maps.hdf5"):
        for image_id, seed in (("a", 0), ("b", 1)):
            np.testing.assert_array_equal(
                read_map(find_maps(str(tmp_path / name)), image_id, (6, 8), (6, 8)), values(seed)
            )


def test_what_does_not_fit_is_counted_by_name(folder):
    images = [("a", (60, 80)), ("b", (6, 8)), ("c", (60, 60)), ("d", (6, 8))]
    check = check_maps(find_maps(str(folder)), images)
    assert check.found == ("a", "b") and check.missing == ("d",)
    (wrong,) = check.wrong_sized
    assert wrong.endswith("c.png is 6x8, the photograph 60x60")
    assert [name.rpartition("/")[2] for name in check.extra] == ["001.npy"]
    assert str(check).startswith("2 maps, 1 missing (d), 1 extra (")
    assert not read_map(find_maps(str(folder)), "c", (60, 60), (4, 4)).any()
    assert not read_map(find_maps(str(folder)), "d", (6, 8), (4, 4)).any()


def test_a_map_gets_where_its_photograph_gets(folder):
    frame = read_map(find_maps(str(folder)), "a", (6, 8), (8, 8), rule="letterbox")
    np.testing.assert_array_equal(frame[1:7], values(0))
    assert not frame[[0, 7]].any()


def test_proportions():
    assert fits((6, 8), (600, 800)) and fits((224, 298), (600, 800)) and fits((1080, 1920), (1080, 1920))
    assert not fits((224, 224), (600, 800)) and not fits((6, 8, 3), (6, 8))


def test_bad_maps_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder of maps"):
        find_maps(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected maps .* got none"):
        find_maps(str(tmp_path / "empty"))
    (tmp_path / "list.txt").write_text("a")
    with pytest.raises(ValueError, match=r"expected a folder of maps, or a file \.npz"):
        find_maps(str(tmp_path / "list.txt"))
    for name in ("broken.npy", "broken.npz", "broken.png", "broken.mat"):
        own = tmp_path / name.replace(".", "_")
        own.mkdir()
        (own / name).write_bytes(b"not an array")
        with pytest.raises(ValueError, match="broken"):
            find_maps(str(own / name if name.endswith("npz") else own))
    np.save(tmp_path / "empty" / "n.npy", values(0) * np.nan)
    with pytest.raises(ValueError, match=r"n.npy: expected finite numbers"):
        read_map(find_maps(str(tmp_path / "empty")), "n", (6, 8), (6, 8))


def test_what_is_written_comes_back(tmp_path):
    write_map(tmp_path, "Action/001", values(0), form="npy")
    write_map(tmp_path, "b", values(1))
    np.testing.assert_array_equal(read_map(find_maps(str(tmp_path)), "Action/001", (6, 8), (6, 8)), values(0))
    np.testing.assert_allclose(read_map(find_maps(str(tmp_path)), "b", (6, 8), (6, 8)) / 255, values(1), atol=0.5 / 255)
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (8, 6)
    for image_id in ("../b", "/b"):
        with pytest.raises(ValueError, match="image_id: expected a name in the folder"):
            write_map(tmp_path, image_id, values(0))
    with pytest.raises(ValueError, match="form: expected 'png' or 'npy'"):
        write_map(tmp_path, "b", values(0), form="gif")


def test_two_maps_of_one_image_are_refused_and_spellings_are_one(tmp_path):
    np.save(tmp_path / "e\u0301.npy", values(0))
    assert list(find_maps(str(tmp_path))) == ["\u00e9"]
    np.save(tmp_path / "\u00e9.npy", values(1))
    with pytest.raises(ValueError, match=r"expected one map of '\u00e9', got .*\.npy and .*\.npy"):
        find_maps(str(tmp_path))


def npy_of(shape, data=b"", descr="<f4"):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", npy_of((10**5, 10**5), bytes(9))),
        ("a.npy", b"junk"),
        ("a.npy", npy_of((1, 1), bytes(8), "<c8")),
        ("a.npy", npy_of((1, 1), bytes(4), "<U1")),
        ("a.mat", b"MATLAB 5.0" + bytes(200)),
        ("a.mat", b""),
        ("a.png", b"junk"),
    ],
)
def test_a_damaged_map_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{name}: expected [^\n]*, got [^\n]*$"):
        read_map(find_maps(str(tmp_path)), "a", (1, 1), (1, 1))


def zip_of(path, **members):
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def test_archives_that_declare_more_than_they_hold_are_refused(tmp_path):
    for content in (npy_of((6, 8), bytes(10**7)), npy_of((10**6, 10**6)), b"junk"):
        path = zip_of(tmp_path / "maps.npz", a=content)
        with pytest.raises(ValueError, match=rf"^{path}: expected arrays of numbers, got something else \(a\.npy: "):
            find_maps(str(path))


def test_hdf5_archives_hold_their_own_numbers(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = values(0)
    layout = h5py.VirtualLayout((6, 8), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (6, 8))
    makers = {
        "virtual.h5": lambda file: file.create_virtual_dataset("a", layout),
        "link.h5": lambda file: file.__setitem__("a", h5py.ExternalLink("secret.h5", "x")),
        "fill.h5": lambda file: file.create_dataset("a", (60000, 80000), "f4", chunks=(1000, 1000), fillvalue=1),
    }
    for name, make in makers.items():
        with h5py.File(tmp_path / name, "w") as file:
            make(file)
        with pytest.raises(ValueError, match=rf"^{tmp_path / name}: expected arrays of numbers, got something else"):
            read_map(find_maps(str(tmp_path / name)), "a", (6, 8), (6, 8))
