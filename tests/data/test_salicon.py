import json

import numpy as np
import pytest

from mlfem_jax.data.releases.records import Problems
from mlfem_jax.data.releases.registry import find_dataset
from mlfem_jax.data.releases.salicon import read_salicon, read_salicon_json
from tests.data.release_files import write_image, write_map, write_salicon_mat

STEM = "COCO_{split}2014_{id:012d}".format


def coco(path, *, images, annotations, categories=((1, "person"), (18, "dog"), (90, "toothbrush"))):
    """`annotations`: (image id, category id, iscrowd)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": image_id} for image_id in images],
        "categories": [{"id": category_id, "name": name} for category_id, name in reversed(categories)],
        "annotations": [
            {"image_id": image, "category_id": category, "iscrowd": crowd} for image, category, crowd in annotations
        ],
    }
    path.write_text(json.dumps(content))


@pytest.fixture
def release(tmp_path):
    for split, image_id in (("train", 9), ("train", 25), ("val", 42), ("test", 7)):
        write_image(tmp_path / f"images/{split}/{STEM(split=split, id=image_id)}.jpg", seed=image_id)
    fixations = tmp_path / "fixations"
    write_salicon_mat(fixations / f"train/{STEM(split='train', id=9)}.mat", [[[1, 1], [16, 12]], [], [[3, 5]]])
    write_salicon_mat(fixations / f"train/{STEM(split='train', id=25)}.mat", [[[17, 13], [0, 40]]])
    write_salicon_mat(fixations / f"val/{STEM(split='val', id=42)}.mat", [[[2, 3]]])
    return tmp_path


def test_splits_coordinates_and_workers_without_fixations(release):
    problems = Problems()
    found = read_salicon(release, problems)
    assert found.splits == {
        "train": ("COCO_train2014_000000000009", "COCO_train2014_000000000025"),
        "val": ("COCO_val2014_000000000042",),
    }
    example = found.read("COCO_train2014_000000000009")
    np.testing.assert_array_equal(example.fixations, [[0, 0], [11, 15], [4, 2]])  # (x, y) from 1 to (y, x) from 0
    np.testing.assert_array_equal(example.observers, [0, 0, 2])  # the second worker has none and keeps the number
    assert np.isnan(example.durations).all()
    assert (example.labels, example.clutter, example.size) == ((), -1, (12, 16))
    assert problems.counts == {
        "test images (left out: truth not released)": 1,
        "images without labels: no instances_train2014.json in annotations/": 2,
        "images without labels: no instances_val2014.json in annotations/": 1,
    }
    assert problems.first["test images (left out: truth not released)"] == ["COCO_test2014_000000000007"]


def test_fixations_outside_the_frame_are_clipped_however_far(release):
    problems = Problems()
    example = read_salicon(release, problems).read("COCO_train2014_000000000025")
    np.testing.assert_array_equal(example.fixations, [[11, 15], [11, 0]])
    assert problems.counts["fixations outside the frame (moved onto its border)"] == 2


def test_labels_are_ranks_of_the_sparse_category_ids(release):
    annotations = [(9, 90, 0), (9, 90, 0), (9, 1, 1), (25, 18, 0)]
    coco(release / "annotations/instances_train2014.json", images=[9, 25, 1000], annotations=annotations)
    coco(release / "annotations/instances_val2014.json", images=[42], annotations=[])
    problems = Problems()
    found = read_salicon(release, problems)
    assert found.class_names == ("person", "dog", "toothbrush")
    example = found.read("COCO_train2014_000000000009")
    assert example.labels == (0, 2)  # the crowd of people is a class
    assert example.clutter == 2  # but not an instance
    unannotated = found.read("COCO_val2014_000000000042")
    assert (unannotated.labels, unannotated.clutter) == ((), 0)
    assert list(problems.counts) == ["test images (left out: truth not released)"]


def test_an_image_that_coco_does_not_list_has_unknown_clutter(release):
    coco(release / "annotations/instances_train2014.json", images=[9], annotations=[(9, 1, 0)])
    problems = Problems()
    example = read_salicon(release, problems).read("COCO_train2014_000000000025")
    assert (example.labels, example.clutter) == ((), -1)
    kind = "images without labels: instances_train2014.json does not list them"
    assert problems.first[kind] == ["COCO_train2014_000000000025"]


def test_flat_images_are_split_by_their_names(release):
    for path in sorted((release / "images").glob("*/*.jpg")):
        path.rename(release / "images" / path.name)
    assert {s: len(ids) for s, ids in read_salicon(release, Problems()).splits.items()} == {
        "train": 2,
        "val": 1,
    }


def test_a_released_map_is_the_truth_only_where_there_are_no_fixations(release):
    (release / "fixations/val/COCO_val2014_000000000042.mat").unlink()
    map_ = write_map(release / "maps/val/COCO_val2014_000000000042.png", seed=3)
    write_map(release / "maps/train/COCO_train2014_000000000009.png", seed=4)
    found = read_salicon(release, Problems())
    example = found.read("COCO_val2014_000000000042")
    assert example.density == map_.read_bytes()
    assert example.fixations.shape == (0, 2)
    assert found.read("COCO_train2014_000000000009").density == b""


def test_gaze_without_an_image_and_images_without_gaze_are_counted(release):
    (release / "images/train/COCO_train2014_000000000009.jpg").unlink()
    (release / "fixations/val/COCO_val2014_000000000042.mat").unlink()
    problems = Problems()
    assert read_salicon(release, problems).splits == {"train": ("COCO_train2014_000000000025",)}
    assert problems.first["gaze without an image (left out)"] == ["COCO_train2014_000000000009"]
    assert problems.first["images without gaze (left out)"] == ["COCO_val2014_000000000042"]


def test_the_resolution_must_be_that_of_the_image(release):
    mat = release / "fixations/val/COCO_val2014_000000000042.mat"
    write_salicon_mat(mat, [[[2, 3]]], resolution=(480, 640))
    with pytest.raises(ValueError, match=r"000000000042.jpg: expected \(480, 640\) .*, got \(12, 16\)"):
        read_salicon(release, Problems()).read("COCO_val2014_000000000042")


def test_mouse_samples_stand_for_fixations(tmp_path):
    stem = STEM(split="train", id=1)
    write_image(tmp_path / f"images/train/{stem}.jpg")
    mat = tmp_path / f"fixations/train/{stem}.mat"
    path = ([[1, 1], [2, 1], [16, 12], [40, 3]], [[0], [16], [50], [70]])
    write_salicon_mat(mat, [[[1, 1]], []], samples=[path, (np.zeros((0, 2)), np.zeros((0, 1)))])
    problems = Problems()
    release = find_dataset("salicon/mouse").read(tmp_path, problems)
    example = release.read(stem)
    np.testing.assert_array_equal(example.fixations, [[0, 0], [0, 1], [11, 15], [2, 15]])
    np.testing.assert_array_equal(example.durations, [16, 34, 20, np.nan])
    np.testing.assert_array_equal(example.observers, 0)
    assert problems.counts["fixations outside the frame (moved onto its border)"] == 1
    write_salicon_mat(mat, [[[1, 1]]], samples=[(path[0], path[1][:3])])
    with pytest.raises(ValueError, match=r"gaze\(1\): expected a timestamp for each of 4 locations, got 3"):
        release.read(stem)


def write_json(path, images, annotations):
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [
        {"id": image_id, "file_name": f"{stem}.jpg", "height": h, "width": w} for image_id, stem, (h, w) in images
    ]
    seen = [{"image_id": image, "worker_id": worker, "fixations": points} for image, worker, points in annotations]
    path.write_text(json.dumps({"images": listed, "annotations": seen}))


def test_json_fixations_are_row_column_from_one_and_workers_are_ranked(tmp_path):
    a, b = STEM(split="train", id=1), STEM(split="val", id=2)
    write_image(tmp_path / f"images/train2014examples/{a}.jpg")
    write_image(tmp_path / f"images/{b}.jpg")
    annotations = tmp_path / "annotations"
    write_json(
        annotations / "fixations_train2014examples.json",
        [(1, a, (12, 16))],
        [(1, 395, [[1, 1], [12, 16]]), (1, 7, [[2, 5]])],
    )
    write_json(annotations / "fixations_val2014.json", [(2, b, (12, 16))], [(2, 100, [[3, 4]])])
    found = read_salicon_json(tmp_path, Problems())
    assert found.splits == {"train": (a,), "val": (b,)}
    np.testing.assert_array_equal(found.read(a).fixations, [[0, 0], [11, 15], [1, 4]])
    np.testing.assert_array_equal(found.read(a).observers, [2, 2, 0])  # workers 7, 100, 395
    np.testing.assert_array_equal(found.read(b).observers, [1])


def test_json_that_lists_an_image_twice_is_an_error(tmp_path):
    stem = STEM(split="train", id=1)
    write_image(tmp_path / f"images/{stem}.jpg")
    path = tmp_path / "annotations/fixations_train2014.json"
    write_json(path, [(1, stem, (12, 16))] * 2, [])
    with pytest.raises(ValueError, match=r"fixations_train2014.json: expected .*, got duplicate"):
        read_salicon_json(tmp_path, Problems())
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"fixations_train2014.json: expected a whole JSON file"):
        read_salicon_json(tmp_path, Problems())


@pytest.mark.parametrize("fixations", [[[1, 2], [3]], [[1, 2, 3]], [["a", 1]]])
def test_json_fixations_that_are_no_pairs_name_image_and_worker(tmp_path, fixations):
    stem = STEM(split="train", id=1)
    write_image(tmp_path / f"images/{stem}.jpg")
    path = tmp_path / "annotations/fixations_train2014.json"
    write_json(path, [(1, stem, (12, 16))], [(1, 7, fixations)])
    with pytest.raises(ValueError, match=r"fixations_train2014.json, image 1, worker 7: expected fixations as"):
        read_salicon_json(tmp_path, Problems())
    write_json(path, [(1, stem, (12, 16))], [(2, 7, [[1, 1]])])
    with pytest.raises(ValueError, match=r"fixations_train2014.json: .*KeyError\(2\)"):
        read_salicon_json(tmp_path, Problems())
