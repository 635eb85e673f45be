"""A row's gaze goes to the image that it names, or to none."""

import unicodedata

import numpy as np
import pytest

from mlfem_jax.data.releases.folder import read_folder
from mlfem_jax.data.releases.osie import read_osie
from mlfem_jax.data.releases.records import Problems
from mlfem_jax.data.releases.salicon import read_salicon
from tests.data.release_files import write_image, write_map, write_osie_mat, write_salicon_mat

NOWHERE = "gaze without an image (left out)"


def own(tmp_path, images, rows):
    for i, name in enumerate(images):
        write_image(tmp_path / "images" / name, seed=i)
    lines = [f"{name},zoe,{3 + i},4" for i, name in enumerate(rows)]
    (tmp_path / "fixations.csv").write_text("\n".join(["image,observer,x,y", *lines, ""]))
    problems = Problems()
    return read_folder(tmp_path, problems), problems


def test_gaze_of_another_image_is_left_out_and_counted(tmp_path):
    rows = ["scene1", "scene1.5", "p0.png", "day1/p0.png", "day2/p0.png"]
    found, problems = own(tmp_path, ["scene1.png", "p0.png"], rows)
    np.testing.assert_array_equal(found.read("scene1").fixations, [[4, 3]])
    np.testing.assert_array_equal(found.read("p0").fixations, [[4, 5]])
    assert problems.first[NOWHERE] == ["day1/p0", "day2/p0", "scene1.5"]


def test_images_of_one_name_in_two_folders_are_told_apart(tmp_path):
    images = ["day1/p0.png", "day2/p0.png", "q.png", "sub/r.jpg"]
    rows = ["day1/p0.png", "images/day2/p0", "./q.png", r"sub\r.jpg", "r.jpg", "r.png"]
    with pytest.raises(
        ValueError, match=r"fixations\.csv: .* name of r\.jpg, got .* and 'r\.png', which are two images"
    ):
        own(tmp_path, images, rows)
    found, problems = own(tmp_path, images, rows[:-1])
    assert found.splits == {"full": ("day1/p0", "day2/p0", "q", "sub/r")}
    expected = {"day1/p0": [3], "day2/p0": [4], "q": [5], "sub/r": [6, 7]}
    assert {image_id: found.read(image_id).fixations[:, 1].tolist() for image_id in expected} == expected
    assert problems.counts == {}


def test_a_name_that_fits_two_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"fixations.csv: .*got 'p0.png', which could be any of day1/p0, day2/p0"):
        own(tmp_path, ["day1/p0.png", "day2/p0.png"], ["p0.png"])


def test_composed_and_decomposed_names_are_one_image(tmp_path):
    composed = "é1"
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    found, problems = own(tmp_path, [f"{decomposed}.png"], [f"{composed}.png", f"{decomposed}.png"])
    assert found.splits == {"full": (composed,)} and len(found.read(composed).fixations) == 2
    assert problems.counts == {}
    with pytest.raises(ValueError, match="id 'é1': expected one file"):
        own(tmp_path, [f"{composed}.png", f"{decomposed}.png"], [composed])


def test_a_name_that_is_not_utf8_is_counted(tmp_path):
    found, problems = own(tmp_path, ["a.png", "caf\udce9.png"], ["a"])
    assert found.splits == {"full": ("a",)}
    assert problems.counts == {"files whose names are not UTF-8 (left out)": 1}


def test_maps_belong_to_the_images_of_their_path(tmp_path):
    for name in ("day1/p0", "day2/p0", "q"):
        write_image(tmp_path / f"images/{name}.jpg")
        write_map(tmp_path / f"maps/{name}.png", seed=len(name))
    write_map(tmp_path / "maps/scene.5.png")
    problems = Problems()
    found = read_folder(tmp_path, problems)
    assert found.read("day2/p0").density == (tmp_path / "maps/day2/p0.png").read_bytes()
    assert problems.first == {NOWHERE: ["scene.5"]}


def test_the_names_in_a_mat_are_matched_likewise(tmp_path):
    write_image(tmp_path / "stimuli/1001.jpg")
    gaze = [([5.0], [3.0], [9])]
    write_osie_mat(tmp_path / "eye/fixations.mat", [("1001", gaze), ("1001.5", gaze), ("b/1001.jpg", gaze)])
    problems = Problems()
    assert read_osie(tmp_path, problems).splits == {"full": ("1001",)}
    assert problems.first == {NOWHERE: ["1001.5", "b/1001"]}


def test_two_mats_of_one_image_are_an_error(tmp_path):
    stem = "COCO_train2014_000000000009"
    write_image(tmp_path / f"images/{stem}.jpg")
    for split in ("train", "val"):
        write_salicon_mat(tmp_path / f"fixations/{split}/{stem}.mat", [[[2, 3]]])
    with pytest.raises(ValueError, match=f"id '{stem}': expected one file"):
        read_salicon(tmp_path, Problems())
