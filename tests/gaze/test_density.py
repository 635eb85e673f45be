import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax.gaze import density as gaze, frames

scipy_ndimage = pytest.importorskip("scipy.ndimage", reason="needs SciPy")


def loop_density(fixations, shape, sigma, weights=None):
    """Gaussians added one by one, in float64."""
    height, width = shape
    sigma_y, sigma_x = np.broadcast_to(sigma, 2).astype(np.float64)
    weights = np.ones(len(fixations)) if weights is None else weights
    total = np.zeros(shape)
    for (y, x), weight in zip(np.asarray(fixations, np.float64), weights, strict=True):
        along_y = np.exp(-((np.arange(height) - y) ** 2) / (2 * sigma_y**2))
        along_x = np.exp(-((np.arange(width) - x) ** 2) / (2 * sigma_x**2))
        total += weight * np.outer(along_y, along_x)
    return total / total.sum()


def assert_close(density, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(density), expected, rtol=0, atol=tolerance * expected.max())


def scattered(rng, count, shape):
    return rng.uniform((-5, -5), (shape[0] + 5, shape[1] + 5), (count, 2)).astype(np.float32)


@pytest.mark.parametrize(("count", "shape", "sigma"), [(1, (7, 9), 1.0), (40, (48, 64), 4.5)])
def test_density_agrees_with_a_loop_in_float64(count, shape, sigma):
    rng = np.random.default_rng(0)
    fixations = scattered(rng, count, shape)
    weights = rng.uniform(50, 900, count).astype(np.float32)
    density = gaze.gaze_density(fixations, shape, sigma_px=sigma, weights=weights)
    assert density.dtype == jnp.float32
    assert_close(density, loop_density(fixations, shape, sigma, weights))


@pytest.mark.parametrize("sigma", [3.0, 40.0])
def test_density_is_accurate_for_thousands_of_fixations_on_a_large_frame(sigma):
    shape = (1080, 1920)
    fixations = scattered(np.random.default_rng(0), 3000, shape)
    density = np.asarray(gaze.gaze_density(fixations, shape, sigma_px=sigma))
    block = (slice(500, 540), slice(900, 960))  # the loop over the whole frame would take a minute
    points = fixations.astype(np.float64)
    along_y, along_x = (
        np.exp(-((np.arange(side)[None] - points[:, [axis]]) ** 2) / (2 * sigma**2)) for axis, side in enumerate(shape)
    )
    expected = sum(np.outer(y[block[0]], x[block[1]]) for y, x in zip(along_y, along_x, strict=True))
    expected /= np.dot(along_y.sum(1), along_x.sum(1))
    np.testing.assert_allclose(density[block], expected, rtol=0, atol=1e-5 * density.max())
    assert float(density.astype(np.float64).sum()) == pytest.approx(1, abs=1e-5)


def test_density_agrees_with_scipy_on_integer_fixations():
    rng = np.random.default_rng(1)
    shape = (60, 80)
    fixations = rng.integers(0, shape, (200, 2))
    counts = np.zeros(shape)
    np.add.at(counts, tuple(fixations.T), 1)
    expected = scipy_ndimage.gaussian_filter(counts, 6.0, mode="constant", truncate=20)
    assert_close(gaze.gaze_density(fixations, shape, sigma_px=6.0), expected / expected.sum())


def test_density_by_hand():
    # One fixation on the upper left pixel of 1x2, sigma 1: 1 and exp(-1/2).
    density = gaze.gaze_density(np.zeros((1, 2)), (1, 2), sigma_px=1.0)
    np.testing.assert_allclose(density, [[0.62245933, 0.37754067]], rtol=1e-6)


def test_mask_and_missing_coordinates_count_for_nothing():
    fixations = np.array([[3, 4], [np.nan, 2], [1, np.inf], [6, 6]], np.float32)
    density = gaze.gaze_density(
        fixations,
        (8, 9),
        sigma_px=2.0,
        weights=np.array([1, 1, 1, np.nan]),
        mask=np.array([True, True, True, False]),
    )
    assert_close(density, loop_density(fixations[:1], (8, 9), 2.0), 1e-6)


@pytest.mark.parametrize(
    ("fixations", "options"),
    [
        (np.zeros((0, 2)), {}),
        (np.ones((3, 2)), {"mask": np.zeros(3, bool)}),
        (np.ones((3, 2)), {"weights": np.zeros(3)}),
        (np.full((3, 2), np.nan), {}),
        (np.full((1, 2), -500.0), {}),
    ],
    ids=["none", "masked", "weightless", "nan", "far outside"],
)
def test_density_of_nothing_is_zero(fixations, options):
    density = gaze.gaze_density(fixations, (5, 6), sigma_px=2.0, **options)
    np.testing.assert_array_equal(density, np.zeros((5, 6)))


def test_a_missing_weight_shows():
    density = gaze.gaze_density(np.ones((2, 2)), (5, 6), sigma_px=2.0, weights=np.array([1.0, np.nan]))
    assert np.isnan(density).all()


def test_batch_equals_singles_and_compiles_once():
    rng = np.random.default_rng(2)
    shape, lengths = (30, 41), [0, 3, 11]
    fixations = np.full((3, 11, 2), np.nan, np.float32)
    mask = np.arange(11) < np.array(lengths)[:, None]
    fixations[mask] = scattered(rng, sum(lengths), shape)
    sigmas = np.array([[2, 2], [3, 2], [1, 4]], np.float32)
    jax.clear_caches()
    densities = gaze.gaze_densities(fixations, shape, sigma_px=sigmas, mask=mask)
    gaze.gaze_densities(fixations[::-1], shape, sigma_px=sigmas, mask=mask[::-1])
    assert gaze._gaze_densities._cache_size() == 1
    for density, points, sigma, length in zip(densities, fixations, sigmas, lengths, strict=True):
        single = gaze.gaze_density(points[:length], shape, sigma_px=sigma)
        np.testing.assert_allclose(density, single, rtol=1e-4, atol=1e-9)
    assert_close(densities[2], loop_density(fixations[2], shape, sigmas[2]))


def test_observer_weights():
    observers = np.array([4, 4, 9, 4, -1, -1, 9])
    mask = np.array([True, True, True, True, True, True, False])
    expected = [1 / 3, 1 / 3, 1, 1 / 3, 1 / 2, 1 / 2, 0]
    np.testing.assert_allclose(gaze.observer_weights(observers, mask=mask), expected, rtol=1e-6)


def test_half_densities_are_the_densities_of_the_halves():
    rng = np.random.default_rng(3)
    fixations, observers = scattered(rng, 9, (20, 30)), np.array([0, 1, 2, 3, 0, 1, 2, 3, -1])
    even, odd = gaze.half_densities(fixations, observers, (20, 30), sigma_px=3.0, mask=np.arange(9) != 3)
    assert_close(even, loop_density(fixations[[0, 2, 4, 6]], (20, 30), 3.0))
    assert_close(odd, loop_density(fixations[[1, 5, 7]], (20, 30), 3.0))


def test_sigma_of_a_visual_angle():
    # 2 * 106 cm * tan(0.5 degrees) = 1.85013 cm; at 23.08 pixels/cm that is CAT2000's 42.7 pixels per degree.
    size = (1080 / 23.08, 1920 / 23.08)
    sigma = gaze.sigma_px_of(1.0, screen_size_cm=size, distance_cm=106, resolution_px=(1080, 1920))
    assert sigma == pytest.approx(42.7, abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gaze.gaze_density(np.zeros((1, 2)), (4, 4), sigma_px=0.0),
            "sigma_px: expected a positive number of pixels, .* got 0",
        ),
        (lambda: gaze.gaze_densities(np.zeros((1, 1, 2)), (0, 4), sigma_px=1.0), r"shape: expected .*, got \(0, 4\)"),
        (
            lambda: gaze.sigma_px_of(1, screen_size_cm=(40, 30), distance_cm=57, resolution_px=(768, 1024)),
            "square pixels, got .* 19.2 pixels/cm along y and 34.1",
        ),
        (
            lambda: gaze.sigma_px_of(1, screen_size_cm=(30, 40), distance_cm=0, resolution_px=(768, 1024)),
            "distance_cm .*: expected numbers above 0, got 1, .*, 0 and",
        ),
        (lambda: frames.fit((3, 0), (4, 4)), r"shape and new_shape: expected sides above 0, got \(3, 0\)"),
        (lambda: frames.fit((3, 3), (0, 4)), r"expected sides above 0, got .* and \(0, 4\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_counted_fixations_have_the_density_of_listed_ones():
    counts = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [3, 0, 0, 0]])
    points = np.repeat(np.argwhere(counts), counts[counts > 0], axis=0)
    for sigma_px in (1.5, np.array([0.7, 2.0])):
        expected = gaze.gaze_density(points, counts.shape, sigma_px=sigma_px)
        np.testing.assert_allclose(gaze.count_density(counts, sigma_px=sigma_px), expected, atol=1e-6)
    assert not gaze.count_density(np.zeros((3, 4)), sigma_px=1.0).any()


@pytest.mark.parametrize("shape", [(13,), (4, 6, 5)])
def test_an_event_map_is_the_sum_of_a_gaussian_on_every_event(shape):
    """A signal, and a film whose sigma along time is another one; a NaN place counts for nothing."""
    rng, axes = np.random.default_rng(4), len(shape)
    events = rng.uniform(0, 1, (3, axes)) * shape
    sigmas = (1.5, 2.0, 0.7)[:axes]
    expected = np.zeros(shape)
    for place in np.ndindex(*shape):
        for event in events:
            expected[place] += math.exp(
                -0.5 * sum(((p - e) / s) ** 2 for p, e, s in zip(place, event, sigmas, strict=True))
            )
    events = np.concatenate([events, np.full((1, axes), np.nan)])
    found = gaze.gaze_density(events, shape, sigma_px=sigmas)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-4, atol=1e-9)
    several = gaze.gaze_densities(np.stack([events, events[::-1]]), shape, sigma_px=sigmas)
    np.testing.assert_allclose(several[1], found, rtol=1e-4, atol=1e-9)
    with pytest.raises(ValueError, match=f"shape: expected {axes} lengths above 0"):
        gaze.gaze_density(events, (3, 3), sigma_px=1.0)
    with pytest.raises(ValueError, match=f"one for each of {axes} axes"):
        gaze.gaze_density(events, shape, sigma_px=(1.0, 1.0))
