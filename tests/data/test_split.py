import hashlib

import numpy as np
import pytest

from mlfem_jax.data import split
from tests.data.gaze_records import make_source

IDS = [f"COCO_train2014_{i:012d}" for i in range(2000)]
FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}


def test_hash_is_that_of_sha256():
    digest = hashlib.sha256(b"fold\x00dog").hexdigest()
    assert split.hash_fraction("dog", salt="fold") == pytest.approx(int(digest[:8], 16) / 16**8, abs=1e-9)


def test_parts_are_disjoint_complete_and_of_about_the_right_size():
    parts = split.split_positions(IDS, FRACTIONS)
    assert list(parts) == list(FRACTIONS)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(2000))
    for name, share in FRACTIONS.items():  # within four standard deviations
        assert abs(len(parts[name]) / 2000 - share) < 4 * np.sqrt(share * (1 - share) / 2000)


@pytest.mark.parametrize("divide", [lambda ids: split.split_positions(ids, FRACTIONS), lambda ids: _folds(ids)])
def test_adding_images_moves_none(divide):
    few, shuffled = IDS[::3], list(np.random.default_rng(0).permutation(IDS))
    before = {ids: part for part, positions in divide(few).items() for ids in np.array(few)[positions]}
    after = {ids: part for part, positions in divide(shuffled).items() for ids in np.array(shuffled)[positions]}
    assert len(before) == len(few)
    assert all(after[image_id] == part for image_id, part in before.items())


def _folds(ids):
    return dict(enumerate(split.k_folds(ids, 5)))


def test_folds_partition_and_the_salt_changes_them():
    folds = split.k_folds(IDS, 5)
    assert sorted(np.concatenate(folds)) == list(range(2000))
    assert all(300 < len(fold) < 500 for fold in folds)
    assert not np.array_equal(folds[0], split.k_folds(IDS, 5, salt="other")[0])


def test_scan():
    index = split.scan(make_source(7))
    assert index.ids[-1] == "image6"
    assert index.fixation_counts.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert index.max_fixations == 4
    assert split.scan([]).max_fixations == 0


@pytest.mark.parametrize("fractions", [{"train": 0.5, "test": 0.4}, {"train": 1.5, "test": -0.5}])
def test_bad_fractions_are_named(fractions):
    with pytest.raises(ValueError, match=r"fractions: expected .* add up to 1, got"):
        split.split_positions(IDS, fractions)


def test_one_fold_is_refused():
    with pytest.raises(ValueError, match="k: expected at least 2, got 1"):
        split.k_folds(IDS, 1)
