"""A build is whole or not there, is not repeated without need, and says what it did."""

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tyro
from PIL import Image

from mlfem_jax.data.batches import open_dataset
from mlfem_jax.data.prepared import write as module
from mlfem_jax.data.prepared.builder import GazeBuilder
from mlfem_jax.data.prepared.write import dataset_folder, prepare
from mlfem_jax.data.split import scan
from mlfem_jax.files.whole import restore_folder
from tests.data.release_files import tiny_osie, write_image, write_map, write_osie_mat, write_salicon_mat

STAGING = ".incomplete-1.0.0"


@pytest.fixture
def release(tmp_path):
    return tiny_osie(tmp_path / "release")


def written(folder):
    """Name and time of each file: they change only when it is built again."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def records(folder, split="full"):
    return {r["id"].decode(): r for r in tfds.builder_from_directory(folder).as_data_source(split)}


def test_what_is_written_is_what_the_reader_gave(release, tmp_path):
    folder = prepare("osie", release, tmp_path / "built")
    assert folder == tmp_path / "built/osie/1.0.0"
    assert not (folder.parent / STAGING).exists()
    record = records(folder)["1001"]
    types = {name: getattr(value, "dtype", type(value)) for name, value in record.items()}
    assert types == {
        "image": bytes,
        "id": bytes,
        "size": np.int32,
        "fixations": np.float32,
        "observers": np.int32,
        "durations": np.float32,
        "density": bytes,
        "labels": np.int32,
        "clutter": int,
        "content_box": np.int32,
    }
    assert record["image"] == (release / "data/stimuli/1001.jpg").read_bytes()
    np.testing.assert_array_equal(record["fixations"], np.float32([[0, 0], [7.25, 3.5], [11, 15], [2, 1]]))
    metadata = tfds.builder_from_directory(folder).info.metadata
    assert (metadata["name"], metadata["sigma_px"], metadata["class_names"]) == ("osie", 24.0, [])
    assert metadata["counts"] == {
        "images": {"full": 2},
        "fixations": {"full": 6},
        "observers": 3,
        "viewings": 5,
        "density_maps": 0,
    }
    assert "tensorflow" not in sys.modules


def test_configurations_splits_and_the_summary(tmp_path, capsys):
    stems = [
        f"COCO_{split}2014_{image_id:012d}" for split, image_id in (("train", 1), ("train", 2), ("val", 3), ("test", 4))
    ]
    for stem in stems:
        write_image(tmp_path / f"release/images/{stem}.jpg")
    for stem in (stems[0], stems[2]):
        split = stem.split("_")[1].removesuffix("2014")
        mat = tmp_path / f"release/fixations/{split}/{stem}.mat"
        write_salicon_mat(mat, [[[20, 3], [4, 5]], [[6, 7]]])
    folder = prepare("salicon/2017", tmp_path / "release", tmp_path / "built")
    assert folder == tmp_path / "built/salicon/2017/1.0.0"
    assert list(records(folder, "train")) == [stems[0]]
    assert list(records(folder, "val")) == [stems[2]]
    out = capsys.readouterr().out
    for line in (
        "split train: 1 images, 3 fixations",
        "split val: 1 images, 3 fixations",
        "sigma 19.0 px",
        f"images without gaze (left out): 1, first in {stems[1]}",
        f"test images (left out: truth not released): 1, first in {stems[3]}",
        f"fixations outside the frame (moved onto its border): 2, first in {stems[0]}, {stems[2]}",
    ):
        assert line in out


def test_a_second_run_does_nothing_and_says_so(release, tmp_path, capsys):
    folder = prepare("osie", release, tmp_path)
    before, first = written(folder), capsys.readouterr().out
    assert prepare("osie", release, tmp_path) == folder
    assert written(folder) == before
    second = capsys.readouterr().out
    assert "already built from these files" in second
    assert second.endswith(first)


def test_changed_files_or_sigma_build_it_anew(release, tmp_path):
    folder = prepare("osie", release, tmp_path)
    write_osie_mat(release / "data/eye/fixations.mat", [("1001.jpg", [([2.0], [3.0], [9])])])
    prepare("osie", release, tmp_path)
    np.testing.assert_array_equal(records(folder)["1001"]["fixations"], [[2, 1]])
    prepare("osie", release, tmp_path, sigma_px=30.0)
    metadata = tfds.builder_from_directory(folder).info.metadata
    assert (metadata["sigma_px"], metadata["sigma_source"]) == (30.0, "given with the build")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["1.0.0"]


def test_a_data_set_that_lost_a_file_is_built_anew(release, tmp_path):
    folder = prepare("osie", release, tmp_path)
    next(folder.glob("*.array_record*")).unlink()
    assert len(records(prepare("osie", release, tmp_path))) == 2


@pytest.mark.parametrize("to", ["release/data", "release", "."])
def test_building_into_or_around_the_release_sees_its_changes_and_not_its_own_files(release, tmp_path, capsys, to):
    folder = prepare("osie", release, tmp_path / to)
    prepare("osie", release, tmp_path / to)
    assert "already built" in capsys.readouterr().out
    write_image(release / "data/stimuli/1001.jpg", seed=9)
    prepare("osie", release, tmp_path / to)
    assert records(folder)["1001"]["image"] == (release / "data/stimuli/1001.jpg").read_bytes()


KILL_AFTER_READING = "GazeBuilder._check_published = lambda self, split: os.kill(os.getpid(), signal.SIGKILL)"
KILL_BEFORE_RENAMING = """
download_and_prepare = GazeBuilder.download_and_prepare
def build_and_die(self, **options):
    download_and_prepare(self, **options)
    os.kill(os.getpid(), signal.SIGKILL)
GazeBuilder.download_and_prepare = build_and_die
"""


@pytest.mark.parametrize("patch", [KILL_AFTER_READING, KILL_BEFORE_RENAMING], ids=["reading", "renaming"])
def test_a_killed_build_leaves_nothing_and_can_be_repeated(release, tmp_path, patch):
    script = f"""
import os, signal
from pathlib import Path
from mlfem_jax.data.prepared.builder import GazeBuilder
from mlfem_jax.data.prepared.write import prepare
{patch}
prepare("osie", Path({str(release)!r}), Path({str(tmp_path)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    folder = dataset_folder("osie", tmp_path)
    assert not folder.exists()
    assert (folder.parent / STAGING).exists()
    assert len(records(prepare("osie", release, tmp_path))) == 2
    assert not (folder.parent / STAGING).exists()


KILL_BETWEEN_RENAMES = """
rename = os.rename
def rename_and_die(one, other):
    rename(one, other)
    if Path(one) == final:
        os.kill(os.getpid(), signal.SIGKILL)
os.rename = rename_and_die
"""
KILL_AFTER_REPLACING = "whole.shutil.rmtree = lambda *path, **options: os.kill(os.getpid(), signal.SIGKILL)"
WITHOUT_EXCHANGE = "whole._exchange = lambda one, other: False"


@pytest.mark.parametrize(
    ("patch", "sigma_px"),
    [(KILL_AFTER_REPLACING, 30.0), (f"{WITHOUT_EXCHANGE}\n{KILL_BETWEEN_RENAMES}", 24.0)],
    ids=["exchanged", "renamed"],
)
def test_a_build_killed_while_it_takes_the_old_ones_place_leaves_one_of_them(release, tmp_path, patch, sigma_px):
    folder = prepare("osie", release, tmp_path)
    script = f"""
import os, signal
from pathlib import Path
from mlfem_jax.data.prepared.write import prepare
from mlfem_jax.files import whole
final = Path({str(folder)!r})
{patch}
prepare("osie", Path({str(release)!r}), Path({str(tmp_path)!r}), sigma_px=30.0)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    restore_folder(folder)  # as the next start does first; there is nothing to do where folders were exchanged
    assert tfds.builder_from_directory(folder).info.metadata["sigma_px"] == sigma_px
    assert len(records(folder)) == 2
    prepare("osie", release, tmp_path, sigma_px=40.0)
    assert os.listdir(folder.parent) == ["1.0.0"]


@pytest.mark.parametrize(
    ("name", "content"), [("dataset_info.json", ""), ("features.json", "{}"), ("metadata.json", "{")]
)
def test_a_damaged_data_set_is_named_and_neither_read_nor_replaced(release, tmp_path, name, content):
    folder = prepare("osie", release, tmp_path)
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=rf"^{folder}: expected a prepared data set, got a damaged one \([^\n]*\)$"):
        open_dataset(tmp_path / "osie")
    with pytest.raises(FileExistsError, match=rf"got {name}, which would be written over; .* or were changed since"):
        prepare("osie", release, tmp_path)
    (folder / name).unlink()
    assert len(records(prepare("osie", release, tmp_path))) == 2


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-200], lambda data: bytes(5000), None])
def test_damaged_records_name_their_data_set(release, tmp_path, damage):
    folder = prepare("osie", release, tmp_path)
    (path,) = folder.glob("*.array_record*")
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    with pytest.raises(ValueError, match=rf"^{folder}: expected a prepared data set, got a damaged one \([^\n]*\)$"):
        scan(open_dataset(folder))
    with pytest.raises(ValueError, match=r"^split: expected a slice of full, got 'full\[:99\]' \("):
        open_dataset(prepare("osie", release, tmp_path / "whole"), "full[:99]")


def test_a_folder_with_somebody_elses_files_is_not_replaced(release, tmp_path):
    folder = prepare("osie", release, tmp_path)
    (folder / "notes.txt").write_text("mine")
    before = written(folder)
    with pytest.raises(
        FileExistsError,
        match=r"1\.0\.0: expected .* this program made, got notes\.txt, which would be",
    ):
        prepare("osie", release, tmp_path, sigma_px=1.0)
    assert written(folder) == before
    (folder / "notes.txt").unlink()
    prepare("osie", release, tmp_path, sigma_px=1.0)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_rebuild_leaves_the_old_data_set(release, tmp_path, monkeypatch, stop):
    folder = prepare("osie", release, tmp_path)
    before = written(folder)

    def interrupt(self, split):
        raise stop

    monkeypatch.setattr(GazeBuilder, "_check_published", interrupt)
    with pytest.raises(stop):
        prepare("osie", release, tmp_path, sigma_px=1.0)
    assert written(folder) == before
    assert not (folder.parent / STAGING).exists()


def test_two_builds_at_once_are_refused(release, tmp_path):
    with module._staging(dataset_folder("osie", tmp_path)):
        here = re.escape(f"process {os.getpid()} on ")
        with pytest.raises(
            ValueError,
            match=rf"incomplete-1.0.0: .*, got {here}.* is writing here; wait for it to end",
        ):
            prepare("osie", release, tmp_path)
    prepare("osie", release, tmp_path)


def test_damage_in_the_middle_of_a_release_leaves_no_data_set(release, tmp_path):
    image = release / "data/stimuli/1002.jpg"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(ValueError, match=re.escape(f"{image}: expected an image")):
        prepare("osie", release, tmp_path)
    assert list((tmp_path / "osie").iterdir()) == []


def test_a_release_in_which_nothing_matches_is_an_error(release, tmp_path):
    write_osie_mat(release / "data/eye/fixations.mat", [("9.jpg", [([2.0], [3.0], [9])])])
    with pytest.raises(
        ValueError, match=r"images with gaze, got none \(images without gaze \(left out\): 2; gaze without"
    ):
        prepare("osie", release, tmp_path)


def test_a_split_of_nothing_but_empty_viewings_is_an_error(release, tmp_path):
    write_osie_mat(release / "data/eye/fixations.mat", [("1001.jpg", [([], [], [])])])
    with pytest.raises(ValueError, match="osie, split full: expected images with gaze, got 1 without"):
        prepare("osie", release, tmp_path)


def test_sigma_must_be_given_where_there_is_no_default(tmp_path):
    write_image(tmp_path / "release/images/a.jpg")
    (tmp_path / "release/fixations.csv").write_text("image,observer,x,y\na,1,4,5\n")
    with pytest.raises(ValueError, match=r"sigma_px: expected .*, got none; folder has fixations"):
        prepare("folder", tmp_path / "release", tmp_path)
    with pytest.raises(ValueError, match="sigma_px: expected a positive number"):
        prepare("folder", tmp_path / "release", tmp_path, sigma_px=0.0)
    assert len(records(prepare("folder", tmp_path / "release", tmp_path, sigma_px=5.0))) == 1


def test_released_maps_need_no_sigma(tmp_path):
    write_image(tmp_path / "release/images/a.jpg")
    released = write_map(tmp_path / "release/maps/a.png")
    folder = prepare("folder", tmp_path / "release", tmp_path)
    assert records(folder)["a"]["density"] == released.read_bytes()
    assert tfds.builder_from_directory(folder).info.metadata["sigma_px"] is None


def test_a_complete_release_with_other_totals_than_published_is_told(release, tmp_path, monkeypatch, capsys):
    import dataclasses

    from mlfem_jax.data.releases.osie import OSIE

    other = dataclasses.replace(OSIE, published={"full": (2, 7)})
    monkeypatch.setattr(module, "find_dataset", lambda name: other)
    prepare("osie", release, tmp_path)
    assert "(another release?): 1, first in full: 6, published 7" in capsys.readouterr().out


def test_the_command_line(release, tmp_path):
    arguments = ["osie", "--from", str(release), "--to", str(tmp_path), "--sigma-px", "12"]
    assert tyro.cli(prepare, args=arguments) == tmp_path / "osie/1.0.0"
    assert os.listdir(tmp_path / "osie") == ["1.0.0"]


def test_photographs_are_stored_at_a_frame(release, tmp_path, capsys):
    folder = prepare("osie", release, tmp_path, frame=(9, 12))
    assert "photographs stretched to 9 x 12 pixels" in capsys.readouterr().out
    plain = np.asarray(Image.open(release / "data/stimuli/1001.jpg").resize((12, 9), Image.Resampling.BILINEAR))
    record = records(folder)["1001"]
    assert record["size"].tolist() == [12, 16]  # of the photograph, as are its fixations
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(record["image"]))), plain)
    before = written(folder)
    assert written(prepare("osie", release, tmp_path, frame=(9, 12))) == before
    assert written(prepare("osie", release, tmp_path)) != before
    with pytest.raises(ValueError, match=r"frame: expected a height and a width above 0, got \(0, 8\)"):
        prepare("osie", release, tmp_path, frame=(0, 8))
