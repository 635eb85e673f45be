"""Relevance through attention: against lxt (oracles/make_lrp_golden.py), and small parts by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import explain
from mlfem_jax.attribution import lrp
from mlfem_jax.attribution.lrp_rules import _epsilon, _product, _softmax, relevance_rules
from mlfem_jax.backbones.architectures import ARCHITECTURES
from mlfem_jax.backbones.forward import forward_pass
from mlfem_jax.backbones.networks import swin, vit_names
from mlfem_jax.backbones.networks.rotary import rotation
from mlfem_jax.backbones.registry import load_backbone
from mlfem_jax.backbones.towers import Tower, random_arrays, tower_backbone
from tests.backbones.test_vit import DINOV3, GOLDEN, TINY, network
from tests.synthetic_weights import synthetic_inputs

CLASS = 3
EPSILON = {"rule": "epsilon", "first": "same", "epsilon": 1e-12}


@pytest.fixture(scope="module")
def forward():
    _, config, params = network("timm")
    tower = Tower(config, lambda images: jnp.asarray(images, jnp.float32), "tiny")
    backbone = tower_backbone("tiny", tower, params)
    # Relevance of colors that are no photograph's: without bounds, so `first="same"`.
    return forward_pass(backbone, synthetic_inputs((2, 32, 32, 3)), jnp.full((2, 1), CLASS))


@pytest.mark.parametrize("attention", ["attn", "cp"])
def test_relevance_agrees_with_lxt(forward, attention):
    assert forward.backbone.layers == TINY.layers
    found = jax.jit(
        lambda inputs: lrp.relevance(dataclasses.replace(forward, inputs=inputs), attention=attention, **EPSILON)
    )(forward.inputs)
    expected = np.load(GOLDEN / "lrp_vit.npz")[attention]
    np.testing.assert_allclose(found.sum(axis=-1), expected, atol=1e-4 * np.abs(expected).max())


def test_a_product_is_split_evenly_or_given_to_the_second():
    """2 x 3 = 6 hands back 12: 6 and 6, or nothing and 12."""
    two, three = jnp.full((1, 1), 2.0), jnp.full((1, 1), 3.0)
    for even, expected in ((True, (6, 6)), (False, (0, 12))):
        _, back = jax.vjp(lambda a, b, even=even: _product(jnp.multiply, a, b, epsilon=1e-9, even=even), two, three)
        np.testing.assert_allclose([leaf[0, 0] for leaf in back(jnp.full((1, 1), 12.0))], expected, rtol=1e-6)


def test_a_softmax_takes_what_its_scores_do_not_explain():
    """Scores 0 and log 3: s = (1/4, 3/4). Of relevance (1, 1) score i gets x_i (1 - 2 s_i)."""
    scores = jnp.array([[0.0, np.log(3)]], jnp.float32)
    for passes, expected in ((True, [0, -np.log(3) / 2]), (False, [0, 0])):
        _, back = jax.vjp(lambda x, passes=passes: _softmax(jax.nn.softmax, x, passes=passes), scores)
        np.testing.assert_allclose(back(jnp.ones((1, 2)))[0][0], expected, atol=1e-6)


def test_a_turn_before_a_product_splits_as_by_the_epsilon_rule():
    """Rotary queries and keys: relevance of the turned ones, handed back through the turn as a part of its own."""
    turn = rotation((2, 3), prefix=1, width=4, base=100.0)
    query, key, relevance = (jax.random.normal(jax.random.key(n), (1, 7, 2, 4)) for n in range(3))
    _, back = jax.vjp(lambda q, k: _product(lambda q, k: turn(q) * turn(k), q, k, epsilon=1e-9, even=True), query, key)
    _, plain = jax.vjp(lambda q, k: _product(jnp.multiply, q, k, epsilon=1e-9, even=True), turn(query), turn(key))
    for inputs, found, turned in zip((query, key), back(relevance), plain(relevance), strict=True):
        one = jnp.ones((), jnp.float32)
        expected = _epsilon(1e-9)(lambda x, _: turn(x), inputs, one, jnp.zeros((), jnp.float32), turned)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.sum(), relevance.sum() / 2, rtol=1e-4)


def test_attention_with_rotary_positions_conserves_the_logit():
    """Without biases and tokens of its own, and with scores in the place of their softmax, which takes some."""
    config = dataclasses.replace(TINY, **DINOV3, pool="mean")
    arrays = {
        name: 8 * array * np.float32(not name.endswith(("bias", "token")))
        for name, array in random_arrays(config).items()
    }
    tower = Tower(config, lambda images: jnp.asarray(images, jnp.float32), "tiny")
    backbone = tower_backbone("tiny", tower, vit_names.to_params(config, arrays))
    forward = forward_pass(backbone, synthetic_inputs((2, 16, 24, 3)))
    rules = relevance_rules(forward, **EPSILON, gamma=0.0, attention="attn")
    rules = dataclasses.replace(rules, softmax=lambda _, scores: scores)

    @jax.jit
    def found(inputs):
        outputs, back = jax.vjp(lambda inputs: forward.run(inputs, rules=rules), inputs)
        return outputs[:, CLASS], back(outputs * jax.nn.one_hot(CLASS, 16)[None])[0].sum(axis=(1, 2, 3))

    outputs, relevance = found(forward.inputs)
    np.testing.assert_allclose(relevance, outputs, rtol=2e-3)


def test_without_biases_the_logit_is_conserved(monkeypatch):
    """A fresh Swin has no biases; its softmaxes take some relevance, so attention is a constant here."""
    build = functools.partial(swin.SwinTransformer, swin.Swin(8, (2,), (2,), window=2))
    small = dataclasses.replace(ARCHITECTURES["swin_t"], build=build, input_size=(16, 16))
    monkeypatch.setitem(ARCHITECTURES, "small", small)
    backbone = load_backbone("small", weights="random")
    forward = forward_pass(backbone, np.random.default_rng(0).random((1, 16, 16, 3), np.float32))
    found = jax.jit(
        lambda inputs: lrp.relevance(
            dataclasses.replace(forward, inputs=inputs), rule="epsilon", first="same", attention="cp", epsilon=1e-9
        ).sum()
    )(forward.inputs)
    np.testing.assert_allclose(found, forward.logits.max(), rtol=2e-3)


@pytest.mark.parametrize("method", ["full_grad", "deep_lift", "guided_backprop"])
def test_methods_without_a_rule_for_a_transformer_say_so(forward, method):
    with pytest.raises(ValueError, match=r"rule for the network's normalize parts, got|expected a network with ReLUs"):
        explain(forward.backbone, np.zeros((1, 32, 32, 3), np.uint8), method=method)
