import numpy as np
import pytest

from mlfem_jax.metrics.complexity import effective_complexity, entropy, sparseness
from mlfem_jax.metrics.localization import box_mask, energy_inside, pointing_game, relevance_rank, top_k_intersection

SHAPE = (6, 7)
ALL = (pointing_game, energy_inside, relevance_rank, top_k_intersection)


def random_case(seed):
    rng = np.random.default_rng(seed)
    return np.float32(rng.random(SHAPE)), rng.random(SHAPE) < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_localization_by_loops(seed):
    importance, mask = random_case(seed)
    pixels = sorted(((importance[p], mask[p]) for p in np.ndindex(SHAPE)), reverse=True)
    size = int(mask.sum())
    assert float(pointing_game(importance, mask)) == float(pixels[0][1])
    inside = sum(float(value) for value, there in pixels if there)
    assert float(energy_inside(importance, mask)) == pytest.approx(inside / importance.sum(), abs=1e-6)
    assert float(relevance_rank(importance, mask)) == pytest.approx(sum(t for _, t in pixels[:size]) / size)
    assert float(top_k_intersection(importance, mask, k=5)) == pytest.approx(sum(t for _, t in pixels[:5]) / 5)


def test_ties_count_in_parts():
    importance = np.float32([[3, 1, 1, 1], [0, 0, 0, 0]])
    mask = np.array([[False, True, False, False], [True, False, False, False]])
    assert pointing_game(importance, mask) == 0
    # Two places: one is taken by 3, and three pixels tie for the other, of which one is on the thing.
    assert float(relevance_rank(importance, mask)) == pytest.approx((1 / 3) / 2)
    assert float(top_k_intersection(importance, mask, k=4)) == pytest.approx(1 / 4)


def test_where_nothing_can_be_said():
    importance, mask = random_case(0)
    for metric in ALL:
        options = {"k": 3} if metric is top_k_intersection else {}
        for bad, where in ((importance, mask & False), (importance * 0, mask), (importance + np.nan, mask)):
            assert np.isnan(metric(np.float32(bad), where, **options))
    with pytest.raises(ValueError, match=r"mask: expected \(H, W\)"):
        energy_inside(importance, mask[:3])
    with pytest.raises(ValueError, match="k: expected 1 to 42 pixels, got 0"):
        top_k_intersection(importance, mask, k=0)


def test_a_mask_of_boxes():
    boxes = np.array([[1, 2, 3, 4], [0, 0, 1, 1]])
    expected = np.zeros((4, 5), bool)
    expected[1:3, 2:4] = expected[0, 0] = True
    np.testing.assert_array_equal(box_mask(boxes, (4, 5)), expected)
    assert not np.asarray(box_mask(np.zeros((0, 4), int), (4, 5))).any()


@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
def test_complexity_by_loops(scale):
    importance = (np.random.default_rng(1).normal(size=SHAPE) * scale).astype(np.float32)
    size = np.abs(importance.astype(float)).ravel() / scale
    gaps = sum(abs(a - b) for a in size for b in size)
    assert float(sparseness(importance)) == pytest.approx(gaps / (2 * len(size) ** 2 * size.mean()), abs=1e-5)
    share = size / size.sum()
    assert float(entropy(importance)) == pytest.approx(-(share * np.log(share)).sum(), abs=1e-5)
    expected = np.mean(size > 0.3 * size.max())
    assert float(effective_complexity(importance, threshold=0.3)) == pytest.approx(expected, abs=1e-6)


def test_complexity_of_degenerate_maps():
    one = np.zeros(SHAPE, np.float32)
    for metric in (sparseness, entropy, effective_complexity):
        assert np.isnan(metric(one)) and np.isnan(metric(one + np.float32(np.inf)))
    assert float(sparseness(one + 2)) == pytest.approx(0, abs=1e-6)
    assert float(entropy(one + 2)) == pytest.approx(np.log(42), abs=1e-5)
    one[2, 3] = -5
    assert float(sparseness(one)) == pytest.approx(1 - 1 / 42, abs=1e-6) and float(entropy(one)) == 0
    with pytest.raises(ValueError, match="threshold: expected a share"):
        effective_complexity(one, threshold=1.0)
