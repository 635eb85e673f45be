"""Real releases, against counts made straight from their files with nothing but scipy and json."""

import json

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from mlfem_jax.data.prepared.write import prepare


def records_of(folder):
    builder = tfds.builder_from_directory(folder)
    return builder.info.metadata, {
        record["id"].decode(): record for split in builder.info.splits for record in builder.as_data_source(split)
    }


def raw_gaze(mat):
    """Image name to the list of (x, y, ms) of each subject, straight from the file."""
    content = scipy.io.loadmat(mat, simplify_cells=True)["fixations"]
    return {
        image["img"]: [
            tuple(np.atleast_1d(subject[name]) for name in ("fix_x", "fix_y", "fix_duration"))
            for subject in image["subjects"]
        ]
        for image in content
    }


def assert_same_gaze(metadata, records, raw):
    assert {f"{image_id}.jpg" for image_id in records} == raw.keys()
    for name, subjects in raw.items():
        record = records[name.removesuffix(".jpg")]
        x, y, ms = (np.concatenate([subject[i] for subject in subjects]) for i in range(3))
        np.testing.assert_allclose(record["fixations"], np.stack([y - 1, x - 1], 1), atol=1e-4)
        np.testing.assert_array_equal(record["durations"], ms.astype(np.float32))
        np.testing.assert_array_equal(
            record["observers"], np.repeat(np.arange(len(subjects)), [len(s[0]) for s in subjects])
        )
    fixations = sum(len(s[0]) for subjects in raw.values() for s in subjects)
    viewings = sum(len(s[0]) > 0 for subjects in raw.values() for s in subjects)
    counts = metadata["counts"]
    assert counts["images"] == {"full": len(raw)}
    assert counts["fixations"] == {"full": fixations}
    assert counts["viewings"] == viewings
    assert counts["observers"] == max(len(subjects) for subjects in raw.values())


def test_osie_has_all_600_images_and_every_fixation_of_the_mat(shared_data, built_osie):
    metadata, records = records_of(built_osie)
    assert_same_gaze(metadata, records, raw_gaze(shared_data("osie") / "data/eye/fixations.mat"))
    assert len(records) == 600
    assert metadata["sigma_px"] == 24.0
    assert dict(metadata["problems"]) == {}
    first = records["1001"]
    np.testing.assert_allclose(first["fixations"][0], [264.7, 394.5], atol=1e-4)  # 1-based x 395.5, y 265.7
    assert first["image"] == (shared_data("osie") / "data/stimuli/1001.jpg").read_bytes()
    assert first["size"].tolist() == [600, 800]
    assert first["content_box"].tolist() == [0, 0, 600, 800]
    assert (first["clutter"], first["labels"].size, first["density"]) == (-1, 0, b"")


def test_crowd_has_all_200_images_and_the_number_of_faces_as_clutter(shared_data, tmp_path):
    source = shared_data("crowd")
    metadata, records = records_of(prepare("crowd", source, tmp_path))
    assert_same_gaze(metadata, records, raw_gaze(source / "data/eye/fixations.mat"))
    assert len(records) == 200
    labels = scipy.io.loadmat(source / "data/labels.mat", simplify_cells=True)["labels"]
    faces = {label["img"].removesuffix(".jpg"): int(label["nFaces"]) for label in labels}
    assert {image_id: int(record["clutter"]) for image_id, record in records.items()} == faces
    assert (min(faces.values()), max(faces.values())) == (4, 268)
    classes = np.array([record["labels"] for record in records.values()])
    assert classes.shape == (200, 1) and np.bincount(classes[:, 0], minlength=4).min() >= 45  # 50 each, but for ties
    for low, high in zip(range(3), range(1, 4), strict=True):
        of_class = [[faces[image_id] for image_id, r in records.items() if r["labels"] == c] for c in (low, high)]
        assert max(of_class[0]) < min(of_class[1])


def test_salicon_sample_has_every_fixation_of_its_json(shared_data, tmp_path):
    source = shared_data("salicon_sample")
    metadata, records = records_of(prepare("salicon/json", source, tmp_path))
    (path,) = (source / "annotations").glob("*.json")
    content = json.loads(path.read_text())
    assert len(records) == len(content["images"]) == 10
    for image in content["images"]:
        mine = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        record = records[image["file_name"].removesuffix(".jpg")]
        expected = np.concatenate([np.array(a["fixations"]) for a in mine]) - 1
        np.testing.assert_array_equal(record["fixations"], expected)
        assert len(np.unique(record["observers"])) == len({a["worker_id"] for a in mine})
        assert record["size"].tolist() == [480, 640]
    counts = metadata["counts"]
    assert counts["images"] == {"train": 10}
    assert counts["fixations"] == {"train": sum(len(a["fixations"]) for a in content["annotations"])}
    assert counts["observers"] == len({a["worker_id"] for a in content["annotations"]})
    assert counts["viewings"] == len(content["annotations"])
