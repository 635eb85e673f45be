"""Our explanations against those of captum, grad-cam, saliency and torch, of one small network.

golden/attribution_small.npz, made by oracles/make_small_attribution_golden.py.
"""

import dataclasses
import functools
from collections import OrderedDict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax.attribution import ablation, full_grad, gradient, guided_cam, paths, regions, rescale
from mlfem_jax.attribution.target import class_score
from mlfem_jax.backbones.forward import Forward
from mlfem_jax.backbones.hooks import PLAIN, no_tap
from mlfem_jax.backbones.networks.layers import convolve, max_pool
from tests.synthetic_weights import centered, synthetic_inputs, uniform

SIZE, BASELINE = (16, 16), -1.5
SHAPES = {"first": (6, 3, 3, 3), "second": (8, 6, 3, 3), "dense": (5, 8)}
SCALES = {"first": 0.4, "second": 0.6, "dense": 1.0}
GOLDEN = Path(__file__).parent.parent / "golden" / "attribution_small.npz"


def parameters():
    """PyTorch's layouts turned into ours."""
    params = {}
    for name, shape in SHAPES.items():
        kernel, bias = (
            centered(f"{name}.weight", shape, SCALES[name]),
            centered(f"{name}.bias", shape[:1], SCALES[name]),
        )
        kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
        params[name] = jnp.asarray(kernel), jnp.asarray(bias).reshape((1,) * (kernel.ndim - 1) + (-1,))
    return params


def apply(params, inputs, *, tap=no_tap, rules=PLAIN):
    first = rules.relu(rules.first(convolve, inputs, *params["first"]))
    pooled = rules.max_pool(functools.partial(max_pool, size=2, stride=2), first)
    last = tap("last", rules.relu6(rules.conv(convolve, pooled, *params["second"])))
    means = rules.average(lambda x: x.mean(axis=(1, 2)), last)
    return rules.dense(jnp.matmul, means, *params["dense"]), OrderedDict(last=last)


def preprocess(images):
    return jnp.asarray(images, jnp.float32) / 255 * 3 + BASELINE  # black is BASELINE


@pytest.fixture(scope="module")
def forward():
    backbone = mlfem.from_function(apply, parameters(), input_size=SIZE, preprocess=preprocess)
    inputs = jnp.asarray(synthetic_inputs((2, *SIZE, 3)))
    return Forward(backbone, inputs, *jax.jit(apply)(backbone.params, inputs))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def agree(found, expected, *, within=0.01):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.999
    assert np.abs(found - expected).max() < within * np.abs(expected).max()


def test_the_network_is_the_same(forward, golden):
    np.testing.assert_allclose(forward.logits, golden["logits"], rtol=1e-4, atol=1e-4)
    assert (forward.activations["last"] == 6).any()


def test_ablation_cam(forward, golden):
    losses = jax.jit(lambda: ablation.channel_losses(forward, "last"))()
    maps = jax.vmap(ablation.ablation_cam)(forward.activations["last"], losses)
    score = np.asarray(forward.logits).max(axis=1)[:, None, None]  # by which grad-cam divides
    agree(np.maximum(maps / score, 0), np.maximum(golden["ablation_cam"], 0))


def test_ablation_goes_on_from_the_layer(forward):
    """What lies before the layer is not computed again: its parameters are never read."""

    def losses(first):
        params = forward.backbone.params | {"first": first}
        backbone = dataclasses.replace(forward.backbone, params=params)
        return ablation.channel_losses(dataclasses.replace(forward, backbone=backbone), "last")

    losses, first = jax.jit(losses), forward.backbone.params["first"]
    np.testing.assert_array_equal(losses(first), losses(jax.tree.map(jnp.zeros_like, first)))


def test_guided_grad_cam(forward, golden):
    agree(jax.jit(lambda: guided_cam.guided_grad_cam(forward))(), golden["guided_grad_cam"])


def test_deep_lift(forward, golden):
    found = jax.jit(lambda: rescale.deep_lift(forward))()
    agree(found, golden["deep_lift"])
    black = apply(forward.backbone.params, jnp.full_like(forward.inputs, BASELINE))[0]
    change = class_score(forward.logits, forward.classes) - class_score(black, forward.classes)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), change, rtol=1e-4)


def test_full_grad(forward, golden):
    agree(jax.jit(lambda: full_grad.full_gradient(forward))(), golden["full_grad"])


def test_full_gradients_are_complete(forward):
    """Without magnitudes and scaling the terms sum to the logit, but for the dense layer's bias."""

    def shown(terms, size):
        return jnp.full(size, terms.sum() / (size[0] * size[1]), jnp.float32)

    total = jax.jit(lambda: full_grad.full_gradient(forward, shown=shown))().sum(axis=(1, 2))
    bias = forward.backbone.params["dense"][1][0, forward.classes[:, 0]]
    np.testing.assert_allclose(total + bias, forward.logits.max(axis=1), rtol=1e-4)


def test_expected_gradients(forward, golden, optimized):
    references = jnp.asarray(0.6 * uniform("references", (2, 3, *SIZE)).transpose(0, 2, 3, 1) - 1.5)
    found = jax.jit(lambda: paths.expected_gradients(forward, references, samples=2000))()
    agree(found, golden["expected_gradients"], within=0.05)


def test_guided_ig(forward, golden, optimized):
    agree(jax.jit(lambda: paths.guided_ig(forward, reach=0.1))(), golden["guided_ig"], within=0.05)


def test_guided_ig_without_reach_is_the_straight_line(forward, optimized):
    """The sum at the ends of the steps before; the midpoints of Integrated Gradients lie half a step further."""
    straight = jax.jit(lambda: paths.guided_ig(forward, steps=100, reach=0.0))()
    agree(straight, gradient.integrated_gradients(forward, steps=100)[0], within=0.05)


def test_xrai(golden):
    image = np.round(np.clip(synthetic_inputs((1, 64, 64, 3), seed=5)[0], -1, 1), 3)
    attribution = centered("attribution", (8, 8), 1.0).repeat(8, 0).repeat(8, 1) + centered("fine", (64, 64), 0.5)
    masks = np.unpackbits(golden["xrai_segments"]).reshape(-1, 64, 64).astype(bool)
    np.testing.assert_allclose(regions.rank_regions(attribution, masks), golden["xrai"], rtol=1e-5)
    found = regions.segments(image)
    assert found.shape == masks.shape and (found == masks).mean() > 0.999


def test_grown_masks_by_loops():
    masks = np.random.default_rng(0).random((2, 7, 9)) < 0.1
    for radius in (0, 1, 3):
        expected = np.zeros_like(masks)
        for one, y, x in zip(*np.nonzero(masks), strict=True):
            rows, columns = np.ogrid[:7, :9]
            expected[one] |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        np.testing.assert_array_equal(regions._grown(masks, radius), expected)


def test_options_out_of_range(forward):
    with pytest.raises(ValueError, match=r"fraction, reach: expected \(0, 1\] and \[0, 1\], got 0.0 and 2.0"):
        paths.guided_ig(forward, fraction=0.0, reach=2.0)
    with pytest.raises(ValueError, match="samples: expected at least 1, got 0"):
        paths.expected_gradients_maps(forward, samples=0)
    with pytest.raises(ValueError, match="dilation_px: expected at least 0, got -1"):
        regions.xrai_maps(forward, dilation_px=-1)
    with pytest.raises(ValueError, match="baseline: expected 'black', 'white' or 'zero', got 'gray'"):
        rescale.deep_lift(forward, baseline="gray")
