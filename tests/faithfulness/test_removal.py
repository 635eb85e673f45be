"""Tests of faithfulness that remove or perturb pixels, against slow loops over a linear network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax import faithfulness
from mlfem_jax.faithfulness.fidelity import mean_square_gap

SHAPE = (6, 8)
WEIGHTS = np.random.default_rng(0).normal(size=(*SHAPE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def linear():
    """Its first logit is the sum of weights times pixels, its second is 0: what each pixel adds is known exactly."""

    def apply(weights, inputs):
        total = (inputs * weights[None]).sum(axis=(1, 2, 3))
        return jnp.stack([total, jnp.zeros_like(total)], axis=1), {"image": inputs}

    return mlfem.from_function(apply, WEIGHTS, input_size=SHAPE, preprocess=lambda images: images)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).random((*SHAPE, 3)).astype(np.float32)


def contribution(image, baseline=0.0):
    return (WEIGHTS * (image - baseline)).sum(axis=-1)


OPTIONS = {"target": 0, "output": "logit"}


def test_abpc_by_loops(linear, image):
    importance = contribution(image)
    order = np.argsort(-importance.ravel())

    def area(order):
        here, values = image.reshape(-1, 3).copy(), []
        mean = image.mean(axis=(0, 1))
        for i in range(len(order) + 1):
            values.append(float((here * WEIGHTS.reshape(-1, 3)).sum()))
            if i < len(order):
                here[order[i]] = mean
        return np.trapezoid(values) / len(order)

    got = faithfulness.abpc(linear, image, importance, steps=48, **OPTIONS)
    assert float(got) == pytest.approx(area(order[::-1]) - area(order), rel=1e-4)
    upside_down = faithfulness.abpc(linear, image, -importance, steps=48, **OPTIONS)
    assert float(upside_down) == pytest.approx(-float(got), rel=1e-4)
    assert np.isnan(faithfulness.abpc(linear, image, importance * 0, steps=4, **OPTIONS))


def slow_fill(image, gone):
    """The linear system pixel by pixel."""
    height, width = gone.shape
    places = [p for p in np.ndindex(gone.shape) if gone[p]]
    number = {p: i for i, p in enumerate(places)}
    matrix, known = np.zeros((len(places),) * 2), np.zeros((len(places), 3))
    for (y, x), i in number.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near = (y + dy, x + dx)
                if (dy or dx) and 0 <= near[0] < height and 0 <= near[1] < width:
                    weight = 1 / 12 if dy and dx else 1 / 6
                    matrix[i, i] += weight
                    if near in number:
                        matrix[i, number[near]] -= weight
                    else:
                        known[i] += weight * image[near]
    out = image.copy()
    for (y, x), value in zip(places, np.linalg.solve(matrix, known), strict=True):
        out[y, x] = value
    return out


def test_holes_are_filled_from_around(image):
    gone = np.random.default_rng(2).random(SHAPE) < 0.6
    got = faithfulness.fill_in(jax.random.key(0), image, gone)
    np.testing.assert_allclose(got, slow_fill(image, gone), atol=5e-4)  # an eighth of a gray level
    noisy = np.asarray(faithfulness.fill_in(jax.random.key(0), image, gone, noise=0.5))
    assert np.ptp((noisy - np.asarray(got))[gone]) > 0.5
    np.testing.assert_array_equal(noisy[~gone], image[~gone])
    assert not np.asarray(faithfulness.fill_in(jax.random.key(0), image, gone | True)).any()


def test_road_by_loops(linear, image):
    importance = contribution(image, 0.5)
    order = np.argsort(-importance.ravel())
    differences = []
    for percent in (25, 50):
        count = round(48 * percent / 100)
        values = []
        for pixels in (order[-count:], order[:count]):
            gone = np.zeros(48, bool)
            gone[pixels] = True
            values.append((slow_fill(image, gone.reshape(SHAPE)) * WEIGHTS).sum())
        differences.append(values[0] - values[1])
    got = faithfulness.road(linear, jax.random.key(0), image, importance, percents=(25, 50), noise=0.0, **OPTIONS)
    assert float(got) == pytest.approx(np.mean(differences), abs=1e-3)
    with pytest.raises(ValueError, match="percents: expected numbers between 0 and 100"):
        faithfulness.road(linear, jax.random.key(0), image, importance, percents=(0,), **OPTIONS)


def test_a_perfect_map_of_a_linear_network(linear, image):
    """Sums over subsets are what the network loses, exactly."""
    key = jax.random.key(1)
    options = {"cells": 6, "draws": 40, "baseline": "black", **OPTIONS}
    importance = contribution(image)
    assert float(faithfulness.sensitivity_n(linear, key, image, importance, **options)) == pytest.approx(1, abs=1e-5)
    assert float(faithfulness.sensitivity_n(linear, key, image, -importance, **options)) == pytest.approx(-1, abs=1e-5)
    gray = np.repeat(np.random.default_rng(3).random((*SHAPE, 1)), 3, axis=2).astype(np.float32)
    mean_weight = WEIGHTS.mean(axis=-1)
    exact = faithfulness.infidelity(linear, key, gray, mean_weight, normalize=False, **options)
    assert float(exact) == pytest.approx(0, abs=1e-8)
    scaled = faithfulness.infidelity(linear, key, gray, 7 * mean_weight, **options)
    assert float(scaled) == pytest.approx(0, abs=1e-8)
    assert float(faithfulness.infidelity(linear, key, gray, -mean_weight, normalize=False, **options)) > 0.01
    for test in (faithfulness.sensitivity_n, faithfulness.infidelity):
        assert np.isnan(test(linear, key, image, importance * 0, **options))
        with pytest.raises(ValueError, match="draws, share and cells: expected"):
            test(linear, key, image, importance, share=1.0, **OPTIONS)


def test_the_best_scale_by_hand():
    said, done = jnp.array([1.0, 2.0, -1.0]), jnp.array([2.0, 1.0, 0.0])
    scale = (2 + 2 + 0) / (1 + 4 + 1)
    expected = ((scale - 2) ** 2 + (2 * scale - 1) ** 2 + scale**2) / 3
    assert float(mean_square_gap(said, done, normalize=True)) == pytest.approx(expected, rel=1e-5)
    assert float(mean_square_gap(said, done, normalize=False)) == pytest.approx((1 + 1 + 1) / 3)


def test_max_sensitivity_of_a_map_that_is_the_image(linear, image):
    """The map's change is the noise itself, in the first color."""
    inner = np.clip(image, 0.1, 0.9)
    method = lambda forward: forward.inputs[..., 0]  # noqa: E731
    key = jax.random.key(2)
    got = faithfulness.max_sensitivity(linear, key, inner, method=method, draws=5, radius=0.02)
    noises = [
        np.asarray(jax.random.uniform(k, inner.shape, minval=-0.02, maxval=0.02))[..., 0]
        for k in jax.random.split(key, 5)
    ]
    expected = max(np.linalg.norm(noise) for noise in noises) / np.linalg.norm(inner[..., 0])
    assert float(got) == pytest.approx(expected, rel=1e-4)
