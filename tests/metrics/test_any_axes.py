"""Metrics of fixations take maps of any number of axes: the order of pixels does not matter to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import metrics
from mlfem_jax.gaze.density import count_density, gaze_density

SHAPE = (3, 4, 5)


@pytest.fixture(scope="module")
def volume():
    """A map, events in it, and the same in a plane whose rows are the first axis."""
    draw = np.random.default_rng(0)
    importance = draw.uniform(0, 1, SHAPE).astype(np.float32)
    events = draw.integers(0, SHAPE, (6, 3)).astype(np.float32)
    flat = np.stack([events[:, 0], events[:, 1] * SHAPE[2] + events[:, 2]], axis=1)
    return importance, events, importance.reshape(3, 20), flat


@pytest.mark.parametrize("name", ["nss", "auc", "auc_judd", "information_gain"])
def test_a_volume_scores_as_the_plane_of_its_numbers(volume, name):
    importance, events, plane, flat = volume
    metric = getattr(metrics, name)
    np.testing.assert_allclose(metric(importance, events), metric(plane, flat), rtol=1e-6)


def test_counts_and_the_aucs_against_them(volume):
    importance, events, plane, flat = volume
    counts, of_plane = metrics.fixation_counts(events, SHAPE), metrics.fixation_counts(flat, (3, 20))
    assert counts.shape == SHAPE and counts.sum() == 6
    np.testing.assert_array_equal(counts.reshape(3, 20), of_plane)
    others = jnp.flip(counts), jnp.flip(of_plane)
    for metric in (
        metrics.auc_against_counts,
        lambda *args: metrics.auc_shuffled_sampled(*args, key=jax.random.key(0)),
    ):
        np.testing.assert_allclose(metric(importance, events, others[0]), metric(plane, flat, others[1]), rtol=1e-6)


def test_coordinates_are_as_many_as_axes(volume):
    importance, _, _, flat = volume
    with pytest.raises(ValueError, match=r"fixations: expected 3 coordinates, as a map \(3, 4, 5\), got"):
        metrics.nss(importance, flat)


def test_a_density_of_counts_is_that_of_their_places(volume):
    _, events, _, _ = volume
    sigma = (1.0, 2.0, 0.7)
    found = count_density(metrics.fixation_counts(events, SHAPE), sigma_px=sigma)
    np.testing.assert_allclose(found, gaze_density(events, SHAPE, sigma_px=sigma), atol=1e-6)


def test_near_is_within_reach_along_every_axis():
    near = metrics.near_mask(
        np.array([[1.0, 2.5], [9.0, 9.0]]), (4, 6), reach_px=np.array([1.0, 0.5]), mask=np.array([True, False])
    )
    expected = [[2 <= x <= 3 and y <= 2 for x in range(6)] for y in range(4)]
    np.testing.assert_array_equal(near, expected)


def test_what_is_outside_the_content_is_neither_mass_nor_peak():
    importance = jnp.array([1.0, 3.0, 2.0, 9.0])
    mask, box = jnp.array([False, True, False, True]), (0, 3)
    assert float(metrics.energy_inside(importance, mask, content_box=box)) == 0.5
    assert float(metrics.pointing_game(importance, mask, content_box=box)) == 1
    assert float(metrics.energy_inside(importance - 2, mask, content_box=box)) == pytest.approx(2 / 3)
    assert np.isnan(metrics.energy_inside(importance, jnp.arange(4) == 3, content_box=box))
    assert np.isnan(metrics.pointing_game(jnp.array([1.0, 1.0, 1.0, 2.0]), mask, content_box=box))
