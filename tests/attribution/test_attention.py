"""Attention methods on a tiny vision transformer, against slow loops over tokens."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax import from_function, map_batches
from mlfem_jax.attribution import attention, cam, rows
from mlfem_jax.attribution.target import class_score
from mlfem_jax.backbones.attentions import layer_attentions, read_layers
from mlfem_jax.backbones.forward import Forward
from mlfem_jax.backbones.networks import vit_names
from mlfem_jax.backbones.networks.vit import ViT
from mlfem_jax.backbones.towers import Tower, tower_backbone
from mlfem_jax.fusion import TrainedFusion, predict, save_fusion
from mlfem_jax.training.fusion.config import Config, fusion_shape
from tests import reference
from tests.synthetic_weights import centered

CONFIG = ViT(patch=4, width=8, depth=3, heads=2, hidden=16, size=16, prefix=("cls", "registers"), registers=1)
L, H, T, P = 3, 2, 7, 2


def tower(config=CONFIG, classes=3):
    shapes = vit_names.expected_shapes(config, {"head.weight": np.zeros((classes, 1))} if classes else {})
    arrays = {name: centered(name, shape, 0.7) + np.float32(name.startswith("norm") or ".norm" in name)
              for name, shape in shapes.items()}  # fmt: skip
    preprocess = lambda images: jnp.asarray(images, jnp.float32) / 128 - 1  # noqa: E731
    return tower_backbone("tiny", Tower(config, preprocess, ""), vit_names.to_params(config, arrays))


@pytest.fixture(scope="module")
def backbone():
    return tower()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def forward(backbone, images):
    inputs = backbone.preprocess(images)
    return Forward(backbone, inputs, *backbone.apply(backbone.params, inputs))


def softmaxes(seed=0, sharp=2.0):
    scores = np.exp(sharp * np.random.default_rng(seed).standard_normal((L, H, T, T)))
    return (scores / scores.sum(axis=-1, keepdims=True)).astype(np.float32)


def explain(network, photos, **options):
    """Maps at the photographs' own size, which is not square."""
    return mlfem.explain(network, photos, resize="native", **options)


def first_row():
    return jnp.eye(1, T)[0]


def matrix_product(left, right):
    size = len(left)
    return [[math.fsum(left[i][m] * right[m][j] for m in range(size)) for j in range(size)] for i in range(size)]


def with_residual(joint):
    rows = [[joint[i][j] + (i == j) for j in range(T)] for i in range(T)]
    return [[value / math.fsum(row) for value in row] for row in rows]


@pytest.mark.parametrize(("heads", "discard"), [("mean", 0.0), ("max", 0.5), ("min", 0.9)])
def test_rollout_agrees_with_loop(heads, discard):
    attentions = softmaxes()
    rolled = np.eye(T).tolist()
    for block in attentions.astype(np.float64):
        joint = [[{"mean": np.mean, "max": max, "min": min}[heads](block[:, i, j]) for j in range(T)] for i in range(T)]
        ranked = sorted((joint[i][j], i, j) for i in range(T) for j in range(T))
        for _, i, j in ranked[: int(T * T * discard)]:
            joint[i][j] = 0.0
        rolled = matrix_product(with_residual(joint), rolled)
    found = rows.rollout(jnp.asarray(attentions), first_row(), heads=heads, discard=discard)
    np.testing.assert_allclose(found, rolled[0], rtol=1e-4, atol=1e-6)
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_rollout_by_hand():
    # Each token looks at the other alone: B is [[.5, .5], [.5, .5]], and so is every power of it.
    swap = jnp.array([[[[0.0, 1.0], [1.0, 0.0]]]] * 2)
    np.testing.assert_allclose(rows.rollout(swap, jnp.array([1.0, 0.0])), [0.5, 0.5])
    still = jnp.array([[[[1.0, 0.0], [0.0, 1.0]]]])
    np.testing.assert_allclose(rows.rollout(still, jnp.array([1.0, 0.0])), [1, 0])


@pytest.mark.parametrize("sinks", [None, 1.0])
@pytest.mark.parametrize("k", [0.0, 1.0])
def test_rfem_agrees_with_loop(k, sinks):
    attentions = softmaxes(3).astype(np.float64)
    if sinks is not None:
        received = [np.mean(attentions[..., j]) for j in range(T)]
        mean, deviation = np.mean(received[P:]), np.std(received[P:])
        gone = [j for j in range(P, T) if received[j] > mean + sinks * deviation]
        assert gone
        attentions[..., gone] = 0
    expected = np.zeros(T - P)
    for head in range(H):
        rolled = np.eye(T).tolist()
        for block in attentions[:, head]:
            rolled = matrix_product(with_residual(block.tolist()), rolled)
        row = rolled[0][P:]
        for j, value in enumerate(row):
            expected[j] += max(row) if value >= np.mean(row) + k * np.std(row) else 0.0
    found = rows.rfem(jnp.asarray(softmaxes(3)), first_row(), P, k=k, sinks=sinks)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_chefer_agrees_with_loop():
    attentions = softmaxes(4).astype(np.float64)
    gradients = np.random.default_rng(5).standard_normal((L, H, T, T))
    relevance = np.eye(T)
    for block, gradient in zip(attentions, gradients, strict=True):
        change = np.zeros((T, T))
        for i in range(T):
            for j in range(T):
                change[i, j] = sum(max(block[h, i, j] * gradient[h, i, j], 0.0) for h in range(H)) / H
        relevance = relevance + np.array(matrix_product(change.tolist(), relevance.tolist()))
    arrays = (jnp.asarray(values, jnp.float32) for values in (attentions, gradients))
    np.testing.assert_allclose(rows.chefer(*arrays, first_row()), relevance[0], rtol=1e-4)


def test_legrad_agrees_with_loop():
    gradients = np.random.default_rng(6).standard_normal((L, H, T, T))
    expected = [
        sum(max(gradients[l, h, i, j], 0) for l in range(L) for h in range(H) for i in range(T)) / (H * T)  # noqa: E741
        for j in range(T)
    ]
    np.testing.assert_allclose(rows.legrad(jnp.asarray(gradients, jnp.float32)), expected, rtol=1e-5)


def test_attentions_are_softmaxes_of_the_forward_pass(forward):
    found = layer_attentions(forward)
    assert list(found) == ["blocks.0", "blocks.1", "blocks.2"]
    for softmax in found.values():
        assert softmax.shape == (2, 2, 26, 26)  # a class token, a register and 4 x 6 patches
        np.testing.assert_allclose(softmax.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("depth", [None, 2])
def test_gradients_agree_with_finite_differences(forward, depth):
    """One entry of each block's attention moved a little."""
    step, layers = 1e-2, ("blocks.0", "blocks.1")

    def tapped(layer, change):
        def tap(name, value):
            return value.at[:, 1, 0, 5].add(change) if name == f"{layer}.attention" else value

        return class_score(forward.run(forward.inputs, tap=tap, depth=depth), forward.classes)

    gradients = attention.attention_gradients(forward, layers, depth=depth)
    for layer in layers:
        slope = (tapped(layer, step) - tapped(layer, -step)) / (2 * step)
        np.testing.assert_allclose(gradients[layer][:, 1, 0, 5], slope, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("heads", ["mean", "channels"])
def test_attention_is_mlfem_of_the_class_tokens_row(backbone, images, forward, heads):
    maps = explain(backbone, images, method="attention", heads=heads, k=0.5, alpha=0.6)
    for image in range(2):
        layers = []
        for softmax in layer_attentions(forward).values():
            row = np.asarray(softmax)[image, :, 0, 2:].reshape(2, 4, 6).transpose(1, 2, 0)
            features = row.mean(axis=-1, keepdims=True) if heads == "mean" else row
            layers.append(reference.normalize(reference.upsample(reference.fem(features, 0.5), (16, 24))))
        expected = reference.fuse(layers, "add", 0.6, "end")
        np.testing.assert_allclose(maps[image], expected, atol=1e-4)


def test_without_a_threshold_attention_is_the_mean_of_the_heads(backbone, images, forward):
    found = explain(backbone, images, method="attention", fuse="max", normalize="none")
    for image in range(2):
        layers = [np.asarray(softmax)[image, :, 0, 2:].mean(axis=0).reshape(4, 6)
                  for softmax in layer_attentions(forward).values()]  # fmt: skip
        expected = np.max([reference.normalize(reference.upsample(layer, (16, 24))) for layer in layers], axis=0)
        np.testing.assert_allclose(found[image], expected, atol=1e-4)


@pytest.mark.parametrize("prefix", [("cls", "registers"), ()])
def test_the_heads_of_an_attention_are_the_channels_of_a_layer(images, prefix):
    backbone = tower(dataclasses.replace(CONFIG, prefix=prefix, pool="mean"))
    inputs = backbone.preprocess(images)
    forward = Forward(backbone, inputs, *backbone.apply(backbone.params, inputs))
    found = read_layers(forward, ("blocks.1", "blocks.2.attention"))
    assert list(found) == ["blocks.1", "blocks.2.attention"]
    np.testing.assert_array_equal(found["blocks.1"], forward.activations["blocks.1"])
    softmax = np.asarray(layer_attentions(forward)["blocks.2"])
    row = softmax[:, :, 0, 2:] if prefix else softmax.mean(axis=2)
    np.testing.assert_allclose(found["blocks.2.attention"], row.reshape(2, 2, 4, 6).transpose(0, 2, 3, 1), atol=1e-6)


@pytest.mark.parametrize("architecture", ["net", "linear"])
def test_a_fusion_reads_tokens_by_their_sign_and_attention_beside_them(backbone, images, tmp_path, architecture):
    layers = ("blocks.1", "blocks.2.attention")
    asked = Config(tmp_path, tmp_path, architecture=architecture, layers=layers, ks=(1.0,))
    net, recipe = fusion_shape(asked, backbone)
    assert (net.channels, recipe.layers) == (2, layers) and getattr(net, "depths", (8, 2)) == (8, 2)
    params = net.init(jax.random.key(0))
    signs = tuple(backbone.sign(layer) for layer in layers)
    assert signs == ("two_sided", "as_is")
    save_fusion(tmp_path / "f.safetensors", TrainedFusion(net, params, "tiny", layers, (1.0,), {}, signs))
    maps = explain(backbone, images, method="net", weights=str(tmp_path / "f.safetensors"))
    kept = jax.jit(recipe.read)(backbone, images)  # what the trainer keeps of the batch
    size = recipe.size((16, 24))
    for image in range(2):
        stack = net.stack(params, jax.tree.map(lambda leaf, i=image: leaf[i], kept), size)
        np.testing.assert_allclose(maps[image], predict(net, params, stack, (16, 24)), atol=1e-3)


METHODS = {**{name: {} for name in attention.METHODS}, "grad_cam": {}, "layer_cam": {}, "attn_lrp": {}, "cp_lrp": {}}
"""What every network of tokens must be able to do, and how."""


@pytest.mark.parametrize("method", [*METHODS, "fem", "add"])
def test_maps_are_whole_and_blank_where_the_network_is(backbone, images, method):
    maps = np.asarray(explain(backbone, images, method=method, batch_size=2))
    assert maps.shape == (2, 16, 24) and maps.dtype == np.float32
    assert maps.min() >= 0 and np.isfinite(maps).all()
    params = jax.tree.map(lambda leaf: leaf * jnp.float32(np.nan), backbone.params)
    assert not np.asarray(explain(dataclasses.replace(backbone, params=params), images, method=method)).any()


@pytest.mark.parametrize("method", attention.METHODS)
def test_a_network_without_attention_is_refused_by_name(method):
    def apply(params, inputs):
        return inputs.mean(axis=(1, 2)), {"pixels": inputs * params}

    pixels = from_function(apply, jnp.ones(()), input_size=(8, 8), name="pixels", signs="as_is")
    with pytest.raises(ValueError, match=r"backbone: expected a network with attention, .* got 'pixels'"):
        explain(pixels, np.zeros((1, 8, 8, 3), np.uint8), method=method)


def test_grad_cam_sees_the_block_before_the_last(backbone, images):
    by_default = explain(backbone, images, method="grad_cam")
    np.testing.assert_array_equal(by_default, explain(backbone, images, method="grad_cam", layers="blocks.1"))
    assert not np.asarray(explain(backbone, images, method="grad_cam", layers="blocks.2")).any()
    pooled = tower(dataclasses.replace(CONFIG, pool="mean", norm="behind"))
    assert pooled.gradient_layer == ""
    assert np.asarray(explain(pooled, images, method="grad_cam")).any()


def test_an_embedding_explains_itself(images):
    embedder = tower(classes=0)
    assert embedder.embeds
    by_default = explain(embedder, images, method="grad_cam")
    np.testing.assert_array_equal(by_default, explain(embedder, images, method="grad_cam", target="self"))
    assert np.asarray(by_default).any()
    with pytest.raises(ValueError, match="target: 'tiny' tells no classes; expected 'self', got 3"):
        explain(embedder, images, method="grad_cam", target=3)

    def gradient(forward):
        return cam.layer_gradients(forward, ("blocks.1",))["blocks.1"]

    def by_hand(forward):
        embedding = forward.logits / jnp.linalg.norm(forward.logits, axis=1, keepdims=True)

        def total(offset):
            tap = lambda name, value: value + offset if name == "blocks.1" else value  # noqa: E731
            return (forward.run(forward.inputs, tap=tap) * embedding).sum()

        return jax.grad(total)(jnp.zeros_like(forward.activations["blocks.1"]))

    found, expected = (np.stack(list(map_batches(embedder, images, f, resize="native"))) for f in (gradient, by_hand))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="score: expected 'logit' of a network that tells no classes, got"):
        explain(embedder, images, method="grad_cam", score="probability")


def test_a_classifier_has_no_self(backbone, images):
    with pytest.raises(ValueError, match="target: expected class numbers"):
        explain(backbone, images, method="grad_cam", target="self")


def test_options_out_of_range():
    attentions = jnp.asarray(softmaxes())
    with pytest.raises(ValueError, match="heads: expected one of mean, max, min, got 'sum'"):
        rows.rollout(attentions, first_row(), heads="sum")
    with pytest.raises(ValueError, match="discard: expected a share from 0 to below 1, got 1"):
        rows.rollout(attentions, first_row(), discard=1.0)


@pytest.mark.parametrize("method", ["attention", "rollout", "chefer", "legrad", "fem", "add", "grad_cam"])
def test_pixels_beyond_the_last_whole_patch_move_no_map(backbone, images, method):
    """They are not seen, and the maps of the others stay where they are."""
    wide = np.pad(images, [(0, 0), (0, 3), (0, 2), (0, 0)], constant_values=200)
    (alone,) = explain(backbone, images[:1], method=method)
    (beside,) = explain(backbone, wide[:1], method=method)
    assert beside.shape == (19, 26)
    np.testing.assert_allclose(beside[:16, :24], alone, atol=1e-5)
