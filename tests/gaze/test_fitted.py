import dataclasses
import json

import numpy as np
import pytest

from mlfem_jax.gaze.fitted import DensityFit, fit_density, fitted_density

SHAPE = (20, 24)


def test_a_density_by_loops():
    importance = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    curve, rings = np.sort(np.random.default_rng(1).random(20)), np.random.default_rng(2).random(12)
    fit = DensityFit(0.8, tuple(curve.tolist()), tuple(rings.tolist()))
    unit = (importance - importance.min()) / np.ptp(importance)
    expected = np.zeros((5, 6))
    for a in range(5):
        for b in range(6):
            total = weight = 0.0
            for y in range(5):
                for x in range(6):
                    bell = np.exp(-0.5 * ((y - a) ** 2 + (x - b) ** 2) / 0.8**2)
                    total, weight = total + bell * unit[y, x], weight + bell
            height = np.interp(total / weight, np.linspace(0, 1, 20), curve) + 1e-4
            distance = np.sqrt(2) * np.hypot((a + 0.5) / 5 - 0.5, (b + 0.5) / 6 - 0.5)
            expected[a, b] = height * np.interp(distance, np.linspace(0, 1, 12), rings)
    np.testing.assert_allclose(fitted_density(importance, fit), expected / expected.sum(), rtol=1e-4)


def test_the_box_is_all_that_exists():
    importance = np.random.default_rng(0).random((7, 8)).astype(np.float32)
    fit = DensityFit(1.0, tuple(np.linspace(0, 1, 20).tolist()), (1.0,) * 12)
    whole = np.asarray(fitted_density(importance, fit, content_box=(1, 2, 6, 8)))
    np.testing.assert_allclose(whole[1:6, 2:8], fitted_density(importance[1:6, 2:8], fit), rtol=1e-4)
    assert whole.sum() == pytest.approx(1, abs=1e-5) and not whole[0].any() and not whole[:, :2].any()


def drawn(count, seed):
    """Maps of noise, and fixations drawn from the square of each, blurred by nothing."""
    rng = np.random.default_rng(seed)
    maps = rng.random((count, *SHAPE)).astype(np.float32)
    fixations = []
    for importance in maps:
        places = rng.choice(importance.size, 60, p=(importance**4 / (importance**4).sum()).ravel())
        fixations.append(np.stack(np.unravel_index(places, SHAPE), axis=1))
    return maps, np.float32(fixations), np.ones((count, 60), bool)


def test_a_fit_predicts_other_images_better_than_the_map_itself():
    maps, fixations, mask = drawn(24, 0)
    fit = fit_density(maps, fixations, mask, sigma_px=1.0, steps=25)
    assert all(np.diff(fit.curve) >= 0) and fit.sigma_px < 0.6  # the noise itself, hardly blurred
    other_maps, other_fixations, _ = drawn(12, 1)

    def bits(density, points):
        y, x = points.astype(int).T
        return np.log2(density[y, x] * density.size).mean()

    pairs = list(zip(other_maps, other_fixations, strict=True))
    fitted = np.mean([bits(np.asarray(fitted_density(m, fit)), f) for m, f in pairs])
    raw = np.mean([bits(m / m.sum(), f) for m, f in pairs])
    best = np.mean([bits(m**4 / (m**4).sum(), f) for m, f in pairs])
    assert raw < fitted < best + 0.02 and fitted > best - 0.1


def test_fits_pass_through_json():
    fit = DensityFit(1.5, tuple(np.linspace(0, 1, 20).tolist()), (1.0,) * 12)
    assert DensityFit.of(json.loads(json.dumps(dataclasses.asdict(fit)))) == fit
    for bad in ({}, {"sigma_px": "x"}, dataclasses.asdict(fit) | {"curve": [1.0]}):
        with pytest.raises(ValueError, match="fit: expected"):
            DensityFit.of(bad)
    with pytest.raises(ValueError, match="fixations: expected some"):
        fit_density(np.ones((1, 4, 4)), np.zeros((1, 2, 2)), np.zeros((1, 2), bool))
