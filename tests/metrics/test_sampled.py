import jax
import numpy as np
import pytest

from mlfem_jax.metrics.roc import auc_against_counts
from mlfem_jax.metrics.sampled import auc_shuffled_sampled

SHAPE = (9, 11)
KEY = jax.random.key(0)


def case(seed):
    rng = np.random.default_rng(seed)
    importance = rng.random(SHAPE).astype(np.float32) ** 2
    points = np.stack([rng.integers(0, side, 20) for side in SHAPE], axis=1)
    counts = rng.integers(0, 3, SHAPE)
    return importance, points, counts


def slow(importance, points, counts, rng, splits, step=0.1):
    """The benchmark's loop, over pixels that are fixated once or more; drawn with replacement."""
    unit = (importance - importance.min()) / np.ptp(importance)
    own = np.array([unit[p] for p in sorted({tuple(p) for p in points.tolist()})])
    others = unit[counts > 0]
    areas = []
    for _ in range(splits):
        drawn = rng.choice(others, len(own))
        hits, alarms = [0.0], [0.0]
        for threshold in np.float32(step) * np.arange(round(1 / step), -1, -1, dtype=np.float32):
            hits.append(np.mean(own >= threshold))
            alarms.append(np.mean(drawn >= threshold))
        areas.append(np.trapezoid([*hits, 1.0], [*alarms, 1.0]))
    return np.mean(areas), np.std(areas) / np.sqrt(splits)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_benchmarks_loop_to_within_the_drawing(seed):
    importance, points, counts = case(seed)
    expected, error = slow(importance, points, counts, np.random.default_rng(9), 2000)
    got = auc_shuffled_sampled(importance, points, counts, key=KEY, splits=2000)
    assert float(got) == pytest.approx(expected, abs=6 * error)


def test_fine_thresholds_come_to_the_exact_area():
    importance, points, counts = case(4)
    points = np.unique(points, axis=0)
    exact = auc_against_counts(importance, points, (counts > 0).astype(int))
    got = auc_shuffled_sampled(importance, points, counts, key=KEY, splits=3000, step=0.002)
    assert float(got) == pytest.approx(float(exact), abs=0.01)


def test_padding_and_nothing():
    importance, points, counts = case(5)
    padded, mask = np.concatenate([points, points[:3] * 0]), np.arange(23) < 20
    options = {"key": KEY, "splits": 500}
    alone = float(auc_shuffled_sampled(importance, points, counts, **options))
    with_padding = auc_shuffled_sampled(importance, padded, counts, mask=mask, **options)
    assert float(with_padding) == pytest.approx(alone, abs=0.02)
    assert np.isnan(auc_shuffled_sampled(importance * 0, points, counts, **options))
    assert np.isnan(auc_shuffled_sampled(importance, points, counts * 0, **options))
    assert np.isnan(auc_shuffled_sampled(importance, points, counts, mask=np.zeros(20, bool), **options))
    with pytest.raises(ValueError, match="splits and step"):
        auc_shuffled_sampled(importance, points, counts, key=KEY, splits=0)
