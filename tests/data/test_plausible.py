"""Truth that cannot be true is refused, or counted with its file; a damaged MATLAB file takes nothing down."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import scipy.sparse
from PIL import Image

from mlfem_jax.data.example import decode_density, decode_photo
from mlfem_jax.data.prepared.write import prepare
from mlfem_jax.data.releases import mat as mat_module
from mlfem_jax.data.releases.cat2000 import CAT2000, read_cat2000
from mlfem_jax.data.releases.files import image_size
from mlfem_jax.data.releases.folder import read_folder
from mlfem_jax.data.releases.mat import load_mat
from mlfem_jax.data.releases.osie import read_osie
from mlfem_jax.data.releases.records import Problems
from mlfem_jax.data.releases.toronto import read_toronto
from mlfem_jax.data.split import Index, looked_at
from mlfem_jax.photos import PHOTO_SUFFIXES, read_photo
from tests.data.gaze_records import make_record
from tests.data.release_files import cells, tiny_osie, write_image, write_map, write_mat, write_osie_mat

RAMP = np.tile(np.arange(16, dtype=np.uint8) * 16, (12, 1))


def map_of(tmp_path, pixels, name="a.png", **options):
    write_image(tmp_path / "images/a.jpg")
    path = tmp_path / "maps" / name
    path.parent.mkdir(exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    problems = Problems()
    return read_folder(tmp_path, problems), problems, path


@pytest.mark.parametrize(
    ("points", "advice"),
    [
        ([(0.5, 0.2), (0.1, 0.9), (1, 0)], r"lie in \[0, 1\]; .* x \* width - 0.5"),
        ([(-0.5, 0.2), (0.1, -0.9), (1, 0)], r"lie in \[-1, 1\]; .* \(x \+ 1\) \* width / 2"),
    ],
)
def test_fractions_of_the_frame_are_refused(tmp_path, points, advice):
    write_image(tmp_path / "images/a.jpg")
    rows = [f"a,1,{x},{y}" for x, y in [*points, *points, ("", "")]]
    (tmp_path / "fixations.csv").write_text("\n".join(["image,observer,x,y", *rows]))
    with pytest.raises(ValueError, match=rf"fixations\.csv: expected fixations in pixels, .* {advice}"):
        read_folder(tmp_path, Problems())
    with (tmp_path / "fixations.csv").open("a") as file:
        file.write("\na,1,9,3\n")
    assert len(read_folder(tmp_path, Problems()).read("a").fixations) == 7


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_map_of_impossible_values_is_refused_by_name(tmp_path, value):
    pixels = RAMP.astype(np.float32)
    pixels[3, 4] = value
    found, _, path = map_of(tmp_path, pixels, "a.tif")
    with pytest.raises(ValueError, match=rf"{path}: this density map: expected .* finite and not negative"):
        found.read("a")


def test_a_blank_map_is_counted_with_its_file(tmp_path):
    found, problems, _ = map_of(tmp_path, np.zeros((12, 16), np.uint8))
    assert found.read("a") is None
    assert problems.first["density maps that are all zero (not used)"] == ["maps/a.png"]
    assert problems.counts["images without gaze (left out)"] == 1


@pytest.mark.parametrize("colors", ["jet", "turbo"])
def test_a_map_behind_a_color_map_is_refused(tmp_path, colors):
    colored = (matplotlib.colormaps[colors](RAMP)[..., :3] * 255).astype(np.uint8)
    for pixels in (colored, Image.fromarray(colored).quantize(64)):
        found, _, path = map_of(tmp_path, pixels)
        with pytest.raises(ValueError, match=rf"{path}: .* density map in gray, got colors"):
            found.read("a")


def test_a_transparent_map_is_refused(tmp_path):
    found, _, path = map_of(tmp_path, np.dstack([RAMP, RAMP, RAMP, RAMP]))
    with pytest.raises(ValueError, match=rf"{path}: .* transparent"):
        found.read("a")


GRAY = {
    "gray.png": RAMP,
    "rgb.png": np.dstack([RAMP] * 3),
    "rgb.jpg": np.dstack([RAMP] * 3),
    "deep.png": RAMP.astype(np.uint16) * 257,
    "real.tif": RAMP.astype(np.float32) * np.float32(1e36),
    "palette.png": Image.fromarray(RAMP).convert("P"),
}


@pytest.mark.parametrize("name", GRAY)
def test_every_gray_map_gives_the_same_density(tmp_path, name):
    found, _, _ = map_of(tmp_path, GRAY[name], f"a.{name.split('.')[1]}")
    density = decode_density({"id": "a", "density": found.read("a").density}, (12, 16), (0, 0, 12, 16))
    np.testing.assert_allclose(density, RAMP / RAMP.astype(float).sum(), atol=1e-4 if "jpg" in name else 1e-6)


def test_normalized_coordinates_are_refused_with_a_way_to_convert_them(tmp_path):
    write_image(tmp_path / "images/a.jpg")
    table = tmp_path / "fixations.csv"
    rows = [f"a,{i},{i / 20:.2f},0.5" for i in range(20)]
    table.write_text("\n".join(["image,observer,x,y", *rows, "a,21,1.02,0.4", "a,22,nan,0.4", ""]))
    with pytest.raises(ValueError, match=rf"{table}: .* got 21 .* Give x \* width - 0.5 and y \* height - 0.5"):
        read_folder(tmp_path, Problems())


def test_normalized_coordinates_in_a_mat_are_refused_too(tmp_path):
    root = tiny_osie(tmp_path / "release")
    gaze = [(list(np.linspace(0, 1, 9)), list(np.linspace(0, 1, 9)), [100] * 9)]
    write_osie_mat(root / "data/eye/fixations.mat", [("1001.jpg", gaze)])
    with pytest.raises(ValueError, match=r"osie, split full: expected fixations in pixels"):
        prepare("osie", root, tmp_path / "built")
    assert not (tmp_path / "built/osie/1.0.0").exists()


def test_maps_alone_are_nothing_to_train_on():
    index = Index(("a", "b", "c"), np.array([0, 3, 0]), ((), (), ()), np.ones((3, 2), int), ("a", "b", "c"))
    assert looked_at(index, np.array([2, 1, 0])).tolist() == [1]
    with pytest.raises(ValueError, match="expected some on the 2 images to train on, got none"):
        looked_at(index, np.array([0, 2]))


def test_blank_cells_are_as_nan_is(tmp_path):
    write_image(tmp_path / "images/a.jpg")
    rows = ["a,zoe,4,5,", "a,zoe,,5,1", "a,zoe, ,,1", "a,zoe,nan,2,1", "a,,7,8,nan", "a,amy,9,3,inf", "a,amy,2,3,-4"]
    (tmp_path / "fixations.csv").write_text("\n".join(["image,observer,x,y,duration", *rows, ""]))
    (tmp_path / "labels.csv").write_text("image,label,clutter\na,dog,4.0\na,,\na,cat,NaN\n")
    problems = Problems()
    example = read_folder(tmp_path, problems).read("a")
    np.testing.assert_array_equal(example.fixations, [[5, 4], [8, 7], [3, 9], [3, 2]])
    assert example.observers.tolist() == [1, -1, 0, 0] and np.isnan(example.durations).all()
    assert (example.labels, example.clutter) == ((0, 1), 4)
    assert problems.counts == {
        "fixations with a NaN coordinate (dropped)": 3,
        "durations that are negative or infinite (taken as unknown)": 2,
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,observer,x,y,x\na,1,2,3,4\n", r"fixations\.csv: expected each column once, got 'x' more than once"),
        (
            f"image,observer,x,y\na,{'z' * 200_000},2,3\n",
            r"fixations\.csv, line 2: expected .*\(field larger",
        ),
        ("image,observer,x,y\na,1,1_0,3\n", r"fixations\.csv, line 2: expected a number as x, got '1_0'"),
    ],
)
def test_a_table_that_could_be_misread_is_refused(tmp_path, table, message):
    write_image(tmp_path / "images/a.jpg")
    (tmp_path / "fixations.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path, Problems())


@pytest.mark.parametrize("clutter", ["9" * 5000, "3000000000", "-1", "2.5", "inf"])
def test_a_count_that_is_none_names_the_line(tmp_path, clutter):
    write_map(tmp_path / "maps/a.png")
    write_image(tmp_path / "images/a.jpg")
    (tmp_path / "labels.csv").write_text(f"image,label,clutter\na,dog,{clutter}\n")
    with pytest.raises(ValueError, match=r"labels\.csv, line 2: expected a count as clutter") as error:
        read_folder(tmp_path, Problems())
    assert len(str(error.value)) < 300
    (tmp_path / "labels.csv").write_text("image,label,clutter\na,dog,3\na,cat,4\n")
    with pytest.raises(ValueError, match=r"labels\.csv, line 3: expected clutter 3, as before, got 4"):
        read_folder(tmp_path, Problems())


@pytest.mark.parametrize("sigma_px", [float("inf"), float("nan"), 1e30, 1e-30, -1.0])
def test_a_sigma_that_makes_no_map_is_refused(tmp_path, sigma_px):
    with pytest.raises(ValueError, match=r"sigma_px: expected a positive number of pixels, from 0\.1 to 100,000"):
        prepare("osie", tiny_osie(tmp_path), tmp_path, sigma_px=sigma_px)


def test_tables_that_are_pipes_are_refused_and_not_read(tmp_path):
    write_image(tmp_path / "images/a.jpg")
    os.mkfifo(tmp_path / "fixations.csv")
    with pytest.raises(ValueError, match=r"fixations\.csv: expected a file, got a folder, a pipe"):
        read_folder(tmp_path, Problems())
    os.mkfifo(tmp_path / "fixations.mat")
    with pytest.raises(ValueError, match=r"fixations\.mat: expected a file, got a folder, a pipe"):
        load_mat(tmp_path / "fixations.mat", "fixations")


@pytest.mark.parametrize("suffix", sorted(PHOTO_SUFFIXES))
def test_a_photograph_of_every_kind_is_prepared_and_read_as_explain_reads_it(tmp_path, suffix):
    Image.init()
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8))
    path = tmp_path / f"images/a{suffix}"
    path.parent.mkdir()
    (pixels.convert("L") if suffix == ".pgm" else pixels).save(path, Image.EXTENSION[suffix])
    (tmp_path / "fixations.csv").write_text("image,observer,x,y\na,1,5,4\n")
    example = read_folder(tmp_path, Problems()).read("a")
    np.testing.assert_array_equal(decode_photo(vars(example)), read_photo(path))


def test_deep_and_transparent_photographs_are_read_as_explain_reads_them():
    deep = io.BytesIO()
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(deep, "PNG")
    clear = io.BytesIO()
    Image.fromarray(np.dstack([RAMP, RAMP, RAMP, np.zeros_like(RAMP)])).save(clear, "PNG")
    for encoded, expected in ((deep.getvalue(), RAMP), (clear.getvalue(), np.full_like(RAMP, 255))):
        photo = decode_photo(make_record(0, image=encoded))
        np.testing.assert_array_equal(photo, np.dstack([expected] * 3))
        assert image_size(encoded, Path("a.png")) == (12, 16)


def test_a_changed_image_behind_a_link_is_noticed(tmp_path, capsys):
    release, real = tmp_path / "release", tmp_path / "elsewhere"
    write_image(real / "a.png", seed=1)
    release.mkdir()
    (release / "images").symlink_to(real)
    (release / "fixations.csv").write_text("image,observer,x,y\na,1,5,4\n")
    os.mkfifo(real / "b.png")
    prepare("folder", release, tmp_path / "built", sigma_px=5.0)
    assert "pipes, sockets and devices (left out): 1, first in images/b.png" in capsys.readouterr().out
    write_image(real / "a.png", seed=2)
    prepare("folder", release, tmp_path / "built", sigma_px=5.0)
    assert "nothing to do" not in capsys.readouterr().out
    prepare("folder", release, tmp_path / "built", sigma_px=5.0)
    assert "nothing to do" in capsys.readouterr().out


STRANGE = {
    "empty cell": cells([{"img": "1001.jpg", "subjects": cells([])}, np.zeros((0, 0))]),
    "complex": cells([{"img": "1001.jpg", "subjects": np.array([[1 + 2j]])}]),
    "huge sparse": scipy.sparse.csc_matrix((10**6, 10**6)),
    "text": "fixations",
    "numbers": np.eye(3),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_mat_of_something_else_is_one_clear_error(tmp_path, name):
    root = tiny_osie(tmp_path) / "data"
    write_mat(root / "eye/fixations.mat", fixations=STRANGE[name])
    with pytest.raises(ValueError, match=rf"{root}/eye/fixations\.mat[:,] ") as error:
        read_osie(root, Problems())
    assert "\n" not in str(error.value)


def test_sparse_maps_are_read_and_others_refused(tmp_path):
    write_image(tmp_path / "Original Image Set/1.jpg")
    locations = np.zeros((12, 16))
    locations[3, 5] = 1
    write_mat(tmp_path / "origfixdata.mat", white=cells([scipy.sparse.csc_matrix(locations)]))
    np.testing.assert_array_equal(read_toronto(tmp_path, Problems()).read("001").fixations, [[3, 5]])
    write_image(tmp_path / "cat/Stimuli/Action/001.jpg")
    for wrong in (np.ones((12, 16, 2)), np.full((12, 16), np.nan), "map", np.zeros((0, 0), object)):
        write_mat(tmp_path / "cat/FIXATIONLOCS/Action/001.mat", fixLocs=wrong)
        with pytest.raises(ValueError, match=r"Action/001\.mat, fixLocs: expected .*, got"):
            read_cat2000(CAT2000.root(tmp_path / "cat"), Problems()).read("Action/001")


def test_a_reader_that_crashes_or_hangs_takes_nothing_down(tmp_path, monkeypatch):
    path = write_mat(tmp_path / "a.mat", x=np.eye(2))
    np.testing.assert_array_equal(load_mat(path, "x"), np.eye(2))
    process, connection = mat_module._worker()
    real = mat_module._worker

    def stopped(signal_number):
        os.kill(process.pid, signal_number)
        return process, connection

    for signal_number, problem in ((signal.SIGSTOP, "took over 0 s"), (signal.SIGSEGV, "its reader crashed")):
        stub = lambda number=signal_number: stopped(number)  # noqa: E731
        stub.cache_clear = real.cache_clear
        monkeypatch.setattr(mat_module, "_worker", stub)
        monkeypatch.setattr(mat_module, "LIMIT_S", 0.3)
        monkeypatch.setattr(mat_module, "CPU_S", 0.0)
        with pytest.raises(ValueError, match=rf"{path}: expected a whole MATLAB file, got another, .*{problem}"):
            load_mat(path, "x")
        monkeypatch.undo()
        np.testing.assert_array_equal(load_mat(path, "x"), np.eye(2))  # by another process
        process, connection = mat_module._worker()


def test_a_reader_that_computes_without_end_is_stopped_by_the_processors_time(tmp_path, monkeypatch):
    path = write_mat(tmp_path / "a.mat", x=np.eye(2))
    endless = tmp_path / "endless.py"
    source = Path(mat_module.__file__).with_name("mat_worker.py").read_text()
    before = "        content = scipy.io.loadmat("
    assert before in source
    endless.write_text(source.replace(before, f"        while True:\n            pass\n{before}"))
    monkeypatch.setattr(mat_module, "__file__", str(tmp_path / "mat.py"))
    endless.rename(tmp_path / "mat_worker.py")
    monkeypatch.setattr(mat_module, "CPU_S", 0.2)
    mat_module._worker.cache_clear()
    with pytest.raises(
        ValueError, match=rf"{path}: expected a whole MATLAB file, got another, .*computed for over 0 s"
    ):
        load_mat(path, "x")


def test_the_reading_process_ends_with_the_one_that_asks(tmp_path):
    path = write_mat(tmp_path / "a.mat", x=np.eye(2))
    script = f"""
import pathlib
from mlfem_jax.data.releases import mat
mat.load_mat(pathlib.Path({str(path)!r}), "x")
print(mat._worker()[0].pid)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(ended.stdout), 0)


def fixations(tmp_path, rows):
    for name in ("a", "b"):
        write_image(tmp_path / f"images/{name}.jpg")
    lines = [f"{name},1,{x},{y}" for name, x, y in rows]
    (tmp_path / "fixations.csv").write_text("\n".join(["image,observer,x,y", *lines]))
    problems = Problems()
    return read_folder(tmp_path, problems), problems


def test_fractions_along_one_axis_are_refused(tmp_path):
    rows = [("a", share / 10, share + 1) for share in range(10)]
    with pytest.raises(
        ValueError, match=r"fixations\.csv: expected fixations in pixels, got 10 of which nearly all lie"
    ):
        fixations(tmp_path, rows)
    fixations(tmp_path, rows[:9])  # of few, one axis may do so by chance


def test_an_image_whose_gaze_is_in_the_first_pixel_is_counted(tmp_path):
    found, problems = fixations(tmp_path, [("a", 0.3, 0.2), ("a", 0.9, 0.7), *[("b", x, 5) for x in range(2, 12)]])
    found.read("a"), found.read("b")
    ((kind, count),) = problems.counts.items()
    assert kind.startswith("images whose fixations all lie in [-1, 1]") and count == 1


def test_a_table_behind_a_link_that_leads_nowhere_is_an_error(tmp_path):
    fixations(tmp_path, [("a", 5, 5)])
    (tmp_path / "labels.csv").symlink_to("gone")
    with pytest.raises(FileNotFoundError, match=r"labels\.csv: expected a file, got none"):
        read_folder(tmp_path, Problems())
