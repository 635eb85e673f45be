"""Photographs whose crops, mirror images and colors are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax.training.classifier.augmentation import (
    NO_AUGMENTATION,
    Augmentation,
    augment,
    random_color,
    random_crop,
)


def test_a_whole_photograph_without_changes_stays_what_it_is():
    photo = jnp.asarray(np.random.default_rng(0).random((8, 6, 3), np.float32))
    key = jax.random.key(0)
    np.testing.assert_allclose(augment(key, photo, (8, 6), NO_AUGMENTATION), photo, atol=1e-6)
    mirrored = Augmentation(area=1.0, color=0.0)
    found = [np.asarray(augment(jax.random.key(seed), photo, (8, 6), mirrored)) for seed in range(8)]
    same = [np.allclose(result, photo, atol=1e-6) for result in found]
    assert [np.allclose(result, photo[:, ::-1], atol=1e-6) for result in found] == [not value for value in same]
    assert 0 < sum(same) < 8


def test_a_crop_of_a_ramp_is_a_ramp_with_the_share_of_its_area():
    y, x = np.meshgrid(np.arange(64), np.arange(48), indexing="ij")
    photo = jnp.asarray(np.stack([y / 64, x / 48, 0 * x], axis=2), jnp.float32)
    sides = []
    for seed in range(20):
        crop = np.asarray(random_crop(jax.random.key(seed), photo, (16, 12), area=0.35))
        assert crop.shape == (16, 12, 3) and crop.min() >= 0 and crop.max() < 1
        inner = crop[2:-2, 2:-2]  # at the edges of the photograph the ramp ends
        steps = [np.diff(inner[..., 0], axis=0), np.diff(inner[..., 1], axis=1)]
        assert max(np.ptp(values) for values in steps) < 5e-3  # the filter is sampled
        sides.append([steps[0].mean() * 16, steps[1].mean() * 12])  # shares of the photograph's sides
    sides = np.array(sides)
    areas, ratios = sides.prod(axis=1), sides[:, 0] / sides[:, 1]
    assert 0.2 < areas.min() < 0.6 < areas.max() <= 1.02  # less than 0.35 where a side was cut
    assert 0.73 <= ratios.min() < 0.95 and 1.05 < ratios.max() <= 1.36


def test_colors_of_gray_stay_gray_and_in_range():
    gray = jnp.full((4, 4, 3), 0.5)
    found = np.asarray(random_color(jax.random.key(3), gray, strength=0.2))
    np.testing.assert_allclose(found, found[0, 0, 0], atol=1e-6)
    assert 0.4 <= found[0, 0, 0] <= 0.6 and found[0, 0, 0] != 0.5
    bright = random_color(jax.random.key(0), jnp.asarray(np.random.default_rng(0).random((4, 4, 3), np.float32)),
                           strength=0.9)  # fmt: skip
    assert 0 <= float(bright.min()) <= float(bright.max()) <= 1


def test_bad_shares_are_named():
    with pytest.raises(ValueError, match=r"area and color: expected shares in \(0, 1\] and \[0, 1\), got"):
        Augmentation(area=0.0)
