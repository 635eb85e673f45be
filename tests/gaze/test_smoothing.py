import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax.gaze.smoothing import smooth_map


def slow_blur(image, sigma_y, sigma_x, box):
    top, left, bottom, right = box
    out = np.zeros_like(image)
    for a in range(top, bottom):
        for b in range(left, right):
            total = weight = 0.0
            for y in range(top, bottom):
                for x in range(left, right):
                    bell = np.exp(-0.5 * (((y - a) / sigma_y) ** 2 + ((x - b) / sigma_x) ** 2))
                    total, weight = total + bell * image[y, x], weight + bell
            out[a, b] = total / weight
    return out


@pytest.mark.parametrize("box", [(0, 0, 7, 9), (1, 2, 6, 9)])
def test_it_is_a_weighted_mean_of_what_exists(box):
    image = np.random.default_rng(0).random((7, 9))
    got = jax.jit(lambda box: smooth_map(image, sigma_px=jnp.array([1.5, 0.7]), content_box=box))(jnp.array(box))
    np.testing.assert_allclose(got, slow_blur(image, 1.5, 0.7, box), atol=1e-6)


def test_degenerate_maps():
    flat = np.full((6, 6), 0.3, np.float32)
    np.testing.assert_array_equal(smooth_map(flat, sigma_px=2.0), flat)
    box = (1, 0, 5, 6)
    np.testing.assert_array_equal(smooth_map(flat, sigma_px=2.0, content_box=box)[1:5], flat[1:5])
    assert np.isnan(smooth_map(flat + np.where(np.eye(6) > 0, np.nan, 0), sigma_px=2.0)).any()
    with pytest.raises(ValueError, match="sigma_px: expected a positive number"):
        smooth_map(flat, sigma_px=0)


def test_a_tiny_sigma_changes_nothing_and_a_large_one_leaves_the_mean():
    image = np.float32(np.random.default_rng(1).random((5, 8)))
    np.testing.assert_allclose(smooth_map(image, sigma_px=0.1), image, atol=1e-6)
    np.testing.assert_allclose(smooth_map(image, sigma_px=1e4), np.full((5, 8), image.mean()), atol=1e-5)
