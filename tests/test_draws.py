"""JAX's number type changes nothing that is drawn: augmentation, first weights, dropout, noise, random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import from_function
from mlfem_jax.backbones import registry
from mlfem_jax.backbones.trainable import initial_weights, make_classifier
from mlfem_jax.faithfulness import local_lipschitz, randomization_check
from mlfem_jax.fusion.network import UNet
from mlfem_jax.training.classifier.augmentation import Augmentation, augment
from mlfem_jax.training.fusion import step as fusion
from tests.training.tiny_classifier import TINY

PHOTO = np.random.default_rng(0).random((16, 12, 3), np.float32)
MAPS = np.random.default_rng(1).random((4, 2, 16, 16), np.float32)


def key():
    return jax.random.key(3)


def augmented():
    def one(seed):
        return augment(jax.random.fold_in(key(), seed), jnp.asarray(PHOTO), (8, 8), Augmentation())

    return jax.vmap(one)(jnp.arange(8, dtype=jnp.uint32))


def classifier():
    return initial_weights(make_classifier("tiny", 3), weights="random", seed=3)


def fusion_step():
    net, recipe = UNet(2, shrink=1, width=4, levels=2, dropout=0.5), fusion.Recipe(batch_size=4)
    batch = {
        "maps": MAPS,
        "fixations": np.tile(np.float32([[[3, 4], [9, 12]]]), (4, 1, 1)),
        "fixation_mask": np.ones((4, 2), bool),
        "sigma_px": np.full((4, 2), 2, np.float32),
        "mask": np.ones(4, bool),
    }
    state, loss = fusion.make_step(net, recipe, 3, (16, 16))(fusion.initial_state(net, recipe, 3), batch)
    return state.params, loss


def network():
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32))

    def apply(params, inputs):
        features = jax.nn.relu(inputs @ params)
        return features.mean((1, 2)), {"features": features}

    return from_function(apply, weights, input_size=(16, 12), preprocess=lambda images: images)


def seen(forward):
    return forward.activations["features"][..., 0]


def stability():
    return local_lipschitz(network(), key(), PHOTO, method=seen, draws=3)


def randomized():
    return randomization_check(network(), key(), PHOTO, method=seen)


@pytest.mark.parametrize("draw", [augmented, classifier, fusion_step, stability, randomized])
def test_numbers_of_64_bits_draw_the_same(draw, monkeypatch):
    monkeypatch.setitem(registry.ARCHITECTURES, "tiny", TINY)
    expected = jax.device_get(draw())
    with jax.enable_x64(True):
        found = jax.device_get(draw())
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)
