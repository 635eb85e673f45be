import itertools

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs SciPy")

from mlfem_jax.scores.pairs import effects, holm, pair_counts, paired_tests, survivals, tied, win_matrix
from mlfem_jax.scores.statistics import (
    bootstrap_interval,
    clutter_levels,
    group_summaries,
    relative_loss,
    summarize,
)

NAN = float("nan")
# images by methods: grad_cam, fem, net
SCORES = np.array([[0.1, 0.3, 0.5], [0.2, 0.2, 0.6], [0.4, 0.3, NAN], [0.0, 0.1, 0.2]])


def test_win_matrix_by_hand():
    # Column beats row: fem beats grad_cam on images 0 and 3, is beaten on 2, and ties on 1; net misses image 2.
    assert win_matrix(SCORES).tolist() == [[0, 2, 3], [1, 0, 3], [0, 0, 0]]
    assert win_matrix(SCORES, higher_is_better=False).tolist() == [[0, 1, 0], [2, 0, 0], [3, 3, 0]]
    assert pair_counts(SCORES).tolist() == [[4, 4, 3], [4, 4, 3], [3, 3, 3]]


def test_wins_losses_and_ties_are_all_pairs():
    scores = np.random.default_rng(0).integers(0, 4, (50, 5)).astype(float)
    wins = win_matrix(scores)
    for i, j in itertools.combinations(range(5), 2):
        assert wins[i, j] + wins[j, i] + (scores[:, i] == scores[:, j]).sum() == 50


def test_bootstrap_interval_of_a_normal_sample():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)
    assert bootstrap_interval(np.append(values, NAN)) == (low, high)
    narrow = bootstrap_interval(values, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_too_little_for_an_interval():
    assert np.isnan(bootstrap_interval(np.array([1.0, NAN]))).all()
    assert summarize(np.array([1.0, NAN]))[:3] == (1, 1.0, 1.0)
    assert summarize(np.array([NAN])).count == 0 and np.isnan(summarize(np.array([NAN]))[1:]).all()
    assert summarize(np.array([1.0, 2.0, 6.0, NAN]))[:3] == (3, 3.0, 2.0)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and never decreasing.
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])
    assert holm(np.zeros(0)).shape == (0,)


def test_paired_tests_count_the_signs():
    rng = np.random.default_rng(2)
    first, gain, other = rng.normal(size=8), np.arange(1.0, 9.0), np.array([1, -2, 3, -4, 5, -6, 7, -8.0])
    scores = np.stack([first, first + gain, first + other], axis=1)
    p_values = paired_tests(scores)

    def signed_rank_test(differences):
        ranks = np.abs(differences).argsort().argsort() + 1
        rank_sum = (ranks * np.sign(differences)).sum()
        signs = itertools.product((-1, 1), repeat=len(differences))
        return np.mean([abs(rank_sum) <= abs((ranks * np.array(sign)).sum()) for sign in signs])

    raw = [signed_rank_test(scores[:, i] - scores[:, j]) for i, j in ((0, 1), (0, 2))]
    assert raw == pytest.approx([2 / 256, signed_rank_test(other)])
    assert p_values[0, 1] == pytest.approx(3 * raw[0]) and p_values[0, 2] == pytest.approx(raw[1])
    np.testing.assert_array_equal(p_values, p_values.T)


def test_paired_tests_of_degenerate_pairs():
    scores = np.array([[1.0, 1.0, NAN], [2.0, 2.0, NAN]])
    np.testing.assert_array_equal(paired_tests(scores), [[1, 1, NAN], [1, 1, NAN], [NAN, NAN, 1]])


def test_rounding_makes_a_tie():
    assert tied(np.array([1.0, 100.0, 1.0]), np.array([1.000009, 100.0009, 1.00002])).tolist() == [True, True, False]
    rng = np.random.default_rng(4)
    same = rng.random((40, 1)) + rng.normal(size=(40, 3)) * 1e-7
    assert win_matrix(same).sum() == 0 and (paired_tests(same) == 1).all()
    effect = effects(same[:, :1], same[:, 1:2])[0]
    assert effect.ties == 40 and (effect.superiority, effect.superiority_low, effect.superiority_high) == (0.5,) * 3


def test_effects_by_hand():
    first, second = np.array([[0.3], [0.5], [0.2], [NAN]]), np.array([[0.1], [0.5], [0.4], [0.0]])
    effect = effects(first, second)[0]
    assert (effect.images, effect.ties) == (3, 1)
    assert effect.difference == pytest.approx(0.0) and effect.superiority == pytest.approx(0.5)
    assert effect.low == pytest.approx(-0.2) and effect.high == pytest.approx(0.2)
    assert effects(first[:1], second[:1], higher_is_better=False)[0].superiority == 0.0
    nothing = effects(first[3:], second[3:])[0]
    assert nothing.images == 0 and np.isnan(nothing[2:]).all()


def test_effect_intervals_are_those_of_the_mean():
    values = np.random.default_rng(5).normal(0.5, 1.0, (300, 1))
    effect = effects(values, np.zeros((300, 1)))[0]
    low, high = bootstrap_interval(values[:, 0])
    assert effect.low == pytest.approx(low, abs=0.01) and effect.high == pytest.approx(high, abs=0.01)


def test_what_survives_a_blur():
    base = np.random.default_rng(6).normal(size=(30, 1))
    raw = base + np.array([[0.0, 1.0, 2.0, 2.0]]) + np.random.default_rng(7).normal(0, 0.1, (30, 4))
    smoothed = base + np.array([[0.0, 1.0, 0.5, 2.0]]) + np.random.default_rng(8).normal(0, 0.1, (30, 4))
    verdicts = {(s.method, s.other): s.verdict for s in survivals(raw, smoothed)}
    assert verdicts[1, 0] == "survives" and verdicts[2, 1] == "reversed"
    assert verdicts.get((3, 2), verdicts.get((2, 3))) == "gained"
    flat = base + np.zeros((1, 4))
    assert {s.verdict for s in survivals(raw, flat) if {s.method, s.other} != {2, 3}} == {"lost"}
    assert {s.verdict for s in survivals(flat, flat)} == {"open"}
    lower = {(s.method, s.other): s.verdict for s in survivals(-raw, -smoothed, higher_is_better=False)}
    assert lower == verdicts


def test_clutter_levels():
    few = np.array([3, 1, -1, 1, 2])
    level, names = clutter_levels(few)
    assert level.tolist() == [2, 0, -1, 0, 1] and names == ["1", "2", "3"]
    many = np.random.default_rng(3).permutation(100)
    level, names = clutter_levels(many, at_most=4)
    assert names == ["0-24", "25-49", "50-74", "75-99"]
    np.testing.assert_array_equal(level, many // 25)
    assert clutter_levels(np.array([-1, -1]))[1] == []


def test_relative_loss_is_from_the_first_to_the_last_defined_group():
    levels = np.array([0, 0, 1, 2])
    groups = group_summaries(np.array([0.4, 0.6, 0.9, 0.3]), levels, ["1", "2", "3", "4"])
    assert [group.summary.count for group in groups] == [2, 1, 1, 0]
    assert relative_loss(groups) == pytest.approx(0.4)
    assert np.isnan(relative_loss(groups[:1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval(np.zeros(3), confidence=95.0), "confidence: expected a number between 0 and 1"),
        (lambda: clutter_levels(np.zeros(3, int), at_most=0), "at_most: expected at least 1"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
