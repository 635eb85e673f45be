"""The choices and intervals of the cross-validation, by hand."""

import numpy as np
import pytest

from eval.experiments.fusion_tables import FUSIONS, KS, algebra_rows, best_choice, gathered, report
from mlfem_jax.scores.statistics import summarize


def grid(images):
    """Scores that are 0 but where a test sets them."""
    return {metric: np.zeros((images, len(KS), len(FUSIONS))) for metric in ("pcc", "sim")}


def test_k_and_alpha_come_from_the_training_folds_alone():
    scores = grid(4)
    folds = (np.array([0, 1]), np.array([2, 3]))
    first, second = FUSIONS.index("add 0.3"), FUSIONS.index("add 0.7")
    scores["pcc"][2:, 1, first] = 0.9  # the best of the second fold
    scores["pcc"][:2, 4, second] = 0.8  # the best of the first
    scores["sim"][:2, 1, first] = 0.25
    rows = algebra_rows(folds, scores, scores, inside=True)
    np.testing.assert_array_equal(rows["add"]["pcc"], [0, 0, 0, 0])
    np.testing.assert_array_equal(rows["add"]["sim"], [0.25, 0.25, 0, 0])


def test_another_data_set_is_scored_with_every_folds_choice():
    scores, other = grid(4), grid(3)
    folds = (np.array([0, 1]), np.array([2, 3]))
    add = FUSIONS.index("add 0.3")
    scores["pcc"][2:, 1, add] = 0.9
    scores["pcc"][:2, 2, add] = 0.9
    other["pcc"][:, 1, add], other["pcc"][:, 2, add] = [0.1, 0.2, 0.3], [0.3, 0.4, 0.5]
    rows = algebra_rows(folds, scores, other, inside=False)
    np.testing.assert_allclose(rows["add"]["pcc"], [0.2, 0.3, 0.4])


def test_the_best_of_some_columns():
    pccs = np.array([[[0.1, 0.9], [0.2, 0.3]], [[0.1, 0.9], [0.4, 0.3]]])
    assert best_choice(pccs, np.array([0, 1]), np.array([True, False])) == (1, 0)
    assert best_choice(pccs, np.array([0, 1]), np.array([True, True])) == (0, 1)


def test_folds_are_joined_and_models_averaged():
    found = [{"pcc": np.array([1.0, 2.0]), "sim": np.zeros(2)}, {"pcc": np.array([3.0, 6.0]), "sim": np.ones(2)}]
    assert gathered(found, inside=True)["pcc"].tolist() == [1, 2, 3, 6]
    assert gathered(found, inside=False)["pcc"].tolist() == [2, 4]


def test_interval_leaves_undefined_values_out():
    assert summarize(np.array([0.5, np.nan, 0.5])) == (2, 0.5, 0.5, 0.5, 0.5)
    _, mean, _, low, high = summarize(np.random.default_rng(1).normal(0.3, 0.1, 400))
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.15)


def test_a_table_is_written_beside_its_images_scores(tmp_path):
    report(tmp_path, "osie, 5 folds", {"add": {"pcc": np.array([0.5, np.nan, 0.5]), "sim": np.full(3, 0.25)}})
    text = (tmp_path / "osie_5_folds.md").read_text()
    assert text.splitlines()[2:] == ["| add | 0.500 | 0.500 to 0.500 | 0.250 | 0.250 to 0.250 |"]
    with np.load(tmp_path / "osie_5_folds.npz") as found:
        np.testing.assert_array_equal(found["add/pcc"], [0.5, np.nan, 0.5])
