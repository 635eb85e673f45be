"""Groups, seeds and tests of the cross-validated classifiers, by hand."""

import dataclasses

import numpy as np
import pytest

from eval.experiments.classifier_tables import Held, contrasts, mann_whitney, over_seeds, write_results

HELD = Held(
    ids=tuple("abcd"),
    probabilities=np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]]),
    labels=np.eye(2, dtype=bool)[[0, 0, 1, 1]],
    correct=np.array([True, True, False, True]),
    clutter=np.array([1, 5, 9, 30]),
    scores={"pcc": np.array([[0.1, 0.5], [0.3, np.nan], [0.2, 0.4], [0.5, 0.2]])},
)


def test_seeds_are_averaged_and_the_majority_is_correct():
    others = [np.array([True, False, False, False]), np.array([False, True, False, False])]
    runs = [HELD, *(dataclasses.replace(HELD, correct=correct, scores={"pcc": HELD.scores["pcc"] + 0.3})
                    for correct in others)]  # fmt: skip
    found = over_seeds(runs)
    assert found.correct.tolist() == [True, True, False, False]
    np.testing.assert_allclose(found.scores["pcc"][:, 0], [0.3, 0.5, 0.4, 0.7])
    with pytest.raises(ValueError, match="runs: expected the same images in the same order, got 1 of 2"):
        over_seeds([HELD, dataclasses.replace(HELD, ids=tuple("abdc"))])


def test_contrasts_count_images_and_lose_from_the_first_to_the_last():
    wrong = (~HELD.correct).astype(int)
    fem, center = contrasts("0", HELD.scores, ("fem", "center"), wrong, ["correct", "wrong"], resamples=99)
    assert [group.summary.count for group in fem.groups] == [3, 1]
    assert [group.summary.count for group in center.groups] == [2, 1]  # one is undefined
    assert fem.groups[0].summary.mean == pytest.approx(0.3) and fem.loss == pytest.approx(1 / 3)
    assert fem.p_holm == min(1.0, 2 * min(fem.p, center.p)) or fem.p > center.p


def test_mann_whitney_by_counting_orders():
    # Of the 6 choose 3 = 20 orders of two groups, two are as extreme as complete separation.
    assert mann_whitney(np.array([1.0, 2.0, 3.0, np.nan]), np.array([4.0, 5.0, 6.0])) == pytest.approx(2 / 20)
    assert np.isnan(mann_whitney(np.array([1.0]), np.array([np.nan])))


def test_results_are_written_with_the_numbers_of_images(tmp_path):
    text = write_results(tmp_path, {"0": HELD}, ("few", "many"), ("fem", "center"), resamples=99)
    assert "| 0 | 4 | 0.750 | 1.000 |" in text and "| many | 1 | 1 |" in text
    assert "| method | 1 | 5 | 9 | 30 |" in text
    assert (tmp_path / "results.md").read_text() == text + "\n"
