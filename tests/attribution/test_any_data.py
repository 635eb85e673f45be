"""Every method on signals and volumes: the network's map by slow loops, or what it must find."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import Grid, explain, from_function
from mlfem_jax.attribution import methods_on, rise_mask, superpixels
from mlfem_jax.backbones.hooks import PLAIN
from mlfem_jax.faithfulness import (
    abpc,
    confidence_change,
    deletion_curve,
    infidelity,
    local_lipschitz,
    road,
    sensitivity_n,
)
from mlfem_jax.faithfulness.removal import fill_in
from mlfem_jax.metrics import energy_inside, pcc, pointing_game

EVENT = {1: (slice(6, 10),), 2: (slice(6, 10), slice(2, 4)), 3: (slice(6, 10), slice(2, 4), slice(0, 2))}
SHAPE = {1: (40,), 2: (12, 6), 3: (12, 6, 4)}
FAST = {
    "smooth_grad": {"samples": 2},
    "var_grad": {"samples": 2},
    "integrated_gradients": {"steps": 2},
    "guided_ig": {"steps": 2},
    "rise": {"samples": 400, "cells": 4, "score": "logit"},
    "lime": {"samples": 60, "segments": 20, "score": "logit"},
    "occlusion": {"window_px": 2, "stride_px": 1, "score": "logit"},
}
NO_RULES = (
    *("guided_backprop", "deconvnet", "guided_grad_cam", "full_grad", "deep_lift"),
    *("lrp", "attn_lrp", "cp_lrp"),
)
BLIND = ("center", "uniform", "random", "edge", "blurred_edge", "var_grad")


def detector(axes):
    """Its logits are the sums of the squares of two channels, so that it looks where there is something."""

    def apply(params, inputs, *, tap=lambda name, activation: activation):
        power = tap("power", jnp.square(inputs))
        return power.sum(axis=tuple(range(1, axes + 1))) * params, OrderedDict(power=power)

    return from_function(apply, jnp.ones(()), input_shape=(*SHAPE[axes], 2))


def with_event(axes):
    """One example of weak noise, with an event in its first channel, and the event's mask."""
    example = 0.05 * np.random.default_rng(axes).standard_normal((1, *SHAPE[axes], 2)).astype(np.float32)
    mask = np.zeros(SHAPE[axes], bool)
    mask[EVENT[axes]] = True
    there = np.where(np.arange(len(mask)) % 2, -1, 1).reshape(-1, *[1] * (axes - 1)) * mask
    example[0, ..., 0] += there  # of mean 0, so that LIME, which hides by the mean, hides it
    return example, mask


@pytest.mark.parametrize(
    ("method", "axes"),
    [(name, 1) for name in methods_on(detector(1)) if name not in NO_RULES]
    + [(name, 3) for name in "add grad_cam eigen_cam score_cam saliency occlusion rise lime center edge".split()],
)
def test_every_method_finds_the_event(method, axes):
    if method == "lime" and axes > 1:
        pytest.importorskip("skimage")
    example, mask = with_event(axes)
    (found,) = explain(detector(axes), example, method=method, **FAST.get(method, {}))
    assert found.shape == SHAPE[axes] and found.dtype == np.float32
    if method in BLIND:
        assert np.isfinite(found).all()
    elif method not in ("rise", "lime"):
        assert pointing_game(found, mask) == 1
        assert energy_inside(found, mask) > 0.3  # it is a tenth of the signal
    else:
        assert pcc(found, mask.astype(np.float32)) > 0.3


def test_guided_grad_cam_looks_where_the_layers_positions_lie():
    """By hand: two positions, at samples 2 and 6, of value 1 and 3; the gradient is 1 at each, a mean of 1."""

    def run(params, inputs, *, tap=lambda name, activation: activation, rules=PLAIN):
        late = tap("late", rules.relu(inputs[:, 2:7:4]))
        return late.sum(axis=1) + inputs.sum(axis=1), OrderedDict(late=late)

    network = from_function(run, (), input_shape=(9, 1), grids={"late": Grid((4.0,), (2.0,))})
    signal = np.zeros((1, 9), np.float32)
    signal[0, [2, 6]] = 1, 3
    found = explain(network, signal, method="guided_grad_cam", raw=True)[0]
    gradient = np.where(np.isin(np.arange(9), (2, 6)), 2.0, 1.0)
    np.testing.assert_allclose(found, gradient * np.interp(np.arange(9), [2, 6], [1, 3]), rtol=1e-6)


def test_windows_of_any_shape_are_hidden_along_any_axis():
    """By a loop over all windows: the fall of the score, averaged over the windows that hide a sample."""
    backbone, (example, _) = detector(2), with_event(2)
    window, stride = (5, 2), (3, 2)
    (found,) = explain(
        backbone, example, method="occlusion", window_px=window, stride_px=stride, score="logit", target=0, raw=True
    )
    total, count = np.zeros(SHAPE[2]), np.zeros(SHAPE[2])
    starts = [[0, 3, 6, 9], [0, 2, 4]]  # the last reaches over the edge
    for top in starts[0]:
        for left in starts[1]:
            inside = (slice(top, top + 5), slice(left, left + 2))
            total[inside] += np.square(example[0][inside][..., 0]).sum()
            count[inside] += 1
    np.testing.assert_allclose(found, total / count, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(40,), (6, 10, 8)])
def test_a_rise_mask_has_any_number_of_axes(size):
    masks = jax.vmap(lambda key: rise_mask(key, size, cells=3))(jax.random.split(jax.random.key(0), 300))
    assert masks.shape == (300, *size)
    np.testing.assert_allclose(masks.mean(axis=0), 0.5, atol=0.12)


def test_segments_of_a_signal_are_of_one_length():
    labels = superpixels(jnp.zeros((2, 10, 3)), 5)
    assert labels.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]] * 2
    assert superpixels(jnp.zeros((1, 3, 1)), 50).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("axes", [1, 3])
def test_faithfulness_prefers_the_event(axes):
    backbone, (example, mask) = detector(axes), with_event(axes)
    right = mask + 0.01 * np.random.default_rng(0).random(mask.shape).astype(np.float32)
    options = {"target": 0, "output": "logit"}
    scores = [
        lambda one: abpc(backbone, example[0], one, steps=12, **options),
        lambda one: sensitivity_n(backbone, jax.random.key(0), example[0], one, cells=4, draws=40, **options),
        lambda one: road(backbone, jax.random.key(0), example[0], one, percents=(10, 20), **options),
        lambda one: -infidelity(backbone, jax.random.key(0), example[0], one, cells=4, draws=40, **options),
        lambda one: -confidence_change(backbone, example[0], one, **options)[0],
    ]
    for score in scores if axes == 1 else scores[:2]:
        assert score(right) > score(1 - right)
    stable = local_lipschitz(backbone, jax.random.key(0), example[0], method=lambda forward: forward.inputs[..., 0])
    assert stable <= 1
    with pytest.raises(ValueError, match="importance: expected the spatial axes of the example"):
        abpc(backbone, example[0], right[:-1], **options)


def test_a_signal_without_a_channel_axis_is_judged_too():
    backbone = from_function(lambda w, x: (x[:, :2] * w, {"x": x[..., None]}), jnp.ones(()), input_shape=(4,))
    signal, importance = np.array([1.0, 0, 0, 0], np.float32), np.array([1.0, 0.2, 0.1, 0], np.float32)
    curve = deletion_curve(backbone, signal, importance, target=0, steps=4, baseline="black", output="logit")
    assert curve.tolist() == [1, 0, 0, 0, 0]


def test_holes_in_a_signal_are_filled_from_both_sides():
    gone = jnp.array([False, True, True, False])
    filled = fill_in(jax.random.key(0), jnp.array([[0.0], [9.0], [9.0], [3.0]]), gone)
    np.testing.assert_allclose(filled[:, 0], [0, 1, 2, 3], atol=1e-5)
