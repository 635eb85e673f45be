"""Pictures of signals, films and volumes show the map where it is."""

import numpy as np
import pytest
from PIL import Image

from mlfem_jax.gallery import draw_film, draw_plane, draw_signal, draw_slices, write_film


def heat_at(importance):
    """Columns of the picture of a flat signal that are not paper above its curve."""
    picture = draw_signal(np.zeros(10), importance, size=(40, 100))
    return np.flatnonzero((picture[2] != 255).any(axis=-1))


def test_the_heat_is_behind_its_samples():
    importance = np.zeros(10)
    importance[3:5] = 1
    assert heat_at(importance).tolist() == list(range(30, 50))
    assert heat_at(np.zeros(10)).size == 0


def test_channels_are_drawn_below_each_other():
    one = draw_signal(np.arange(8.0), np.zeros(8), size=(30, 50))
    two = draw_signal(np.stack([np.arange(8.0), -np.arange(8.0)], axis=1), np.zeros(8), size=(30, 50))
    np.testing.assert_array_equal(two[:30], one)
    assert two.shape == (72, 50, 3)
    assert one[-6:, :10].min() < 100 < one[:6, :10].min()  # it begins below


def test_slices_meet_where_the_map_is_highest():
    volume, importance = np.zeros((4, 5, 6)), np.zeros((4, 5, 6))
    importance[1, 2, 3] = 1
    picture = draw_slices(volume, importance, scale=1)
    expected = {(2, 3), (1, 6 + 12 + 3), (1, 6 + 12 + 6 + 12 + 2)}
    bright = np.argwhere(np.ptp(picture.astype(int), axis=-1) > 50)
    assert {tuple(place) for place in bright.tolist()} == expected


def test_planes_are_gray_from_the_least_to_the_largest():
    assert draw_plane(np.array([[-1.0, 0, 1]]), np.zeros((1, 3)), scale=2)[0, ::2, 1].tolist() == [0, 128, 255]
    assert draw_plane(np.ones((1, 2)), np.zeros((1, 2))).max() == 0


def test_films_are_strips_and_animations(tmp_path):
    clip = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full((5, 8, 12, 3), 50, np.uint8)
    importance = np.zeros((5, 8, 12))
    strip = draw_film(clip, importance, frames=3, scale=1)
    assert [int(strip[4, x, 0]) for x in (6, 30, 54)] == [0, 100, 200]
    write_film(tmp_path / "film.webp", clip, importance, frames_per_s=10)
    with Image.open(tmp_path / "film.webp") as film:
        assert (film.n_frames, film.size) == (5, (48, 32))
        film.seek(3)
        assert np.asarray(film.convert("RGB")).mean() == pytest.approx(150, abs=3)
