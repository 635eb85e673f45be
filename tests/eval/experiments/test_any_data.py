"""The experiment on sound, series, film and volumes: its data, its truth, and its table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.experiments.any_data.__main__ import scores, table_of
from eval.experiments.any_data.film import FRAMES, calm_starts
from eval.experiments.any_data.kinds import Kind, event_maps
from eval.experiments.any_data.series import LENGTH, read_series, with_bursts
from eval.experiments.any_data.small_net import small_backbone, trained
from eval.experiments.any_data.volume import SIDE, with_blobs


def test_series_are_read_from_the_text_that_aeon_packages(tmp_path):
    (tmp_path / "a.ts").write_text("#about\n@problemName a\n@data\n1,2,3:0,0,2:x\n3,2,1:2,0,0:y\n")
    series = read_series(tmp_path / "a.ts")
    assert series.shape == (2, 3, 2)
    np.testing.assert_allclose(series.mean(axis=(0, 1)), 0, atol=1e-6)
    assert series[0, 0, 0] == pytest.approx(-series[0, 2, 0])
    (tmp_path / "b.ts").write_text("1,2,?:x\n")
    with pytest.raises(ValueError, match=r"b\.ts: expected numbers in line 1"):
        read_series(tmp_path / "b.ts")


def test_bursts_and_blobs_are_where_they_are_said_to_be():
    draw = np.random.default_rng(0)
    shown, classes, starts = with_bursts(draw, np.zeros((3, 60, 2), np.float32), 40)
    for example, kind, start in zip(shown, classes, starts, strict=True):
        assert (np.abs(example).sum() > 0) == (kind > 0)
        assert np.abs(example[start : start + LENGTH]).sum() == pytest.approx(np.abs(example).sum())
    brain = np.full((12, 14, 10), 0.6, np.float32)
    volumes, classes, starts = with_blobs(draw, brain, 30)
    for volume, kind, (z, y, x) in zip(volumes, classes, starts, strict=True):
        inside = (volume[..., 0] - brain)[z : z + SIDE, y : y + SIDE, x : x + SIDE]
        assert np.sign(round(float(inside.mean()) * 10)) == (0, 1, -1)[kind]


def test_masks_and_event_maps_are_of_the_same_place():
    masks, events = event_maps(np.array([[3], [0]]), (4,), (10,))
    assert masks.astype(int).tolist() == [[0, 0, 0, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]]
    assert events[0].argmax() in (4, 5) and events.sum() == pytest.approx(2)


def test_a_film_is_cut_from_what_has_no_cut():
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 255, (1, 27, 48, 3)).astype(np.uint8) for _ in range(2))
    film = np.concatenate([first.repeat(FRAMES + 20, axis=0), second.repeat(FRAMES + 20, axis=0)])
    starts = calm_starts(film)
    assert 0 in starts and 77 in starts
    assert not [start for start in starts if start < FRAMES + 20 <= start + FRAMES]


def test_the_table_counts_what_has_no_score():
    backbone = small_backbone((20, 1), kernel=3, widths=(2,), strides=(2,), classes=2, seed=0)
    assert backbone.grid("conv1").offset == (1.0,)
    masks, events = event_maps(np.array([[2], [9]]), (4,), (20,))
    examples = np.zeros((2, 20, 1), np.float32)
    kind = Kind("a", backbone, backbone, examples, np.zeros(2, int), masks, events, {}, 0.5)
    maps = masks.astype(np.float32)
    found = scores(kind, maps * np.array([[1.0], [0.0]], np.float32))
    assert (found["mass inside"], found["pointing game"], found["blank"]) == (1, 1, 1)
    assert np.isnan(scores(kind, maps * 0)["PCC"])
    rows = [
        {"method": name, **found, "PCC": value, "cost": 1, "untrained": found}
        for name, value in (("b", 0.1), ("c", 0.9))
    ]
    text = table_of(kind, rows)
    assert text.index("| c |") < text.index("| b |") and "50% told rightly; the event is 20.0% of each" in text


def test_training_lowers_the_loss():
    backbone = small_backbone((12, 1), kernel=3, widths=(16,), strides=(1,), classes=2, seed=0)

    def draw(generator, count):
        classes = generator.integers(2, size=count)
        return (generator.normal(0, 0.1, (count, 12, 1)) + 2 * classes[:, None, None] - 1).astype(np.float32), classes

    with jax.numpy_dtype_promotion("standard"):  # Optax divides a count
        params = trained(backbone, draw, steps=150, batch_size=16, seed=0)
    better = dataclasses.replace(backbone, params=params)
    examples, classes = draw(np.random.default_rng(1), 50)
    logits, _ = better.apply(better.params, jnp.asarray(examples))
    assert (np.asarray(logits).argmax(axis=1) == classes).mean() > 0.9
