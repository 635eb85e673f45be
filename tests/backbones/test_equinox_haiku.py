"""Equinox and Haiku networks as backbones: values and gradients as those of the network, cut in two by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import explain
from mlfem_jax.backbones.equinox_modules import from_equinox
from mlfem_jax.backbones.forward import forward_pass
from mlfem_jax.backbones.haiku_modules import from_haiku

eqx = pytest.importorskip("equinox", reason="needs Equinox")
hk = pytest.importorskip("haiku", reason="needs Haiku")

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
INPUTS = jnp.asarray(IMAGES, jnp.float32) / 255


@pytest.fixture(autouse=True)
def _promotion():
    """Their own arithmetic promotes ranks."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def scaled(images):
    return jnp.asarray(images, jnp.float32) / 255


class Relu(eqx.Module):
    def __call__(self, x):
        return jax.nn.relu(x)


class Net(eqx.Module):
    """A list of convolutions, ReLUs as modules, batch norm with a state, dropout."""

    convs: list
    relus: list
    norm: eqx.nn.BatchNorm
    head: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.convs = [eqx.nn.Conv2d(3, 4, 3, key=keys[0]), eqx.nn.Conv2d(4, 5, 3, key=keys[1])]
        self.relus = [Relu(), Relu()]
        self.norm = eqx.nn.BatchNorm(4, axis_name="batch", mode="ema")
        self.head = eqx.nn.Linear(5, 6, key=keys[2])
        self.dropout = eqx.nn.Dropout(0.5)

    def __call__(self, image, state):
        first, state = self.norm(self.convs[0](image), state)
        features = self.relus[1](self.convs[1](self.relus[0](first)))
        return self.head(self.dropout(features.mean(axis=(1, 2)))), state


def equinox_network():
    net, state = eqx.nn.make_with_state(Net)(jax.random.key(0))
    trained = jax.tree.map(lambda x: x + 0.3 if eqx.is_inexact_array(x) else x, state)
    return eqx.nn.inference_mode(net), trained


def test_equinox_gives_its_own_logits_activations_and_gradients():
    net, state = equinox_network()
    layers = ("relus.0", "relus.1")
    backbone = from_equinox(net, layers, input_size=(8, 8), state=state, preprocess=scaled)
    forward = forward_pass(backbone, IMAGES)
    images = INPUTS.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(forward.logits, jax.vmap(lambda x: net(x, state)[0])(images), rtol=1e-5)
    first = jax.vmap(lambda x: jax.nn.relu(net.norm(net.convs[0](x), state)[0]))(images)
    np.testing.assert_allclose(forward.activations["relus.0"], first.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6)

    def rest(first):
        return net.head(jax.nn.relu(net.convs[1](first)).mean(axis=(1, 2)))

    gradient = jax.vmap(jax.grad(lambda first: rest(first)[2]))(first)
    expected = (first * gradient).sum(axis=1)
    maps = explain(backbone, IMAGES, method="hires_cam", layers=("relus.0",), target=2, raw=True)
    np.testing.assert_allclose(np.stack(maps), expected, atol=1e-6)


def test_equinox_paths_and_functional_activations():
    conv = eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(1))
    net = eqx.nn.Sequential([conv, eqx.nn.Lambda(jax.nn.relu), eqx.nn.Lambda(lambda x: x.mean(axis=(1, 2)))])
    backbone = from_equinox(net, ["layers.0"], input_size=(8, 8), activation=jax.nn.relu, preprocess=scaled)
    inner = from_equinox(net, ["layers.1"], input_size=(8, 8), preprocess=scaled)
    found = [forward_pass(each, IMAGES).activations for each in (backbone, inner)]
    np.testing.assert_array_equal(found[0]["layers.0"], found[1]["layers.1"])
    with pytest.raises(ValueError, match="activation: expected none where the gradient at a layer is needed"):
        explain(backbone, IMAGES, method="grad_cam")
    with pytest.raises(ValueError, match=r"layers: expected the path of a module, got 'layers\.7'"):
        from_equinox(net, ["layers.7"], input_size=(8, 8))


class HaikuRelu(hk.Module):
    def __call__(self, x):
        return jax.nn.relu(x)


def haiku_network():
    def forward(images, is_training=True):
        features = hk.Conv2D(4, 3, name="first")(images)
        features = HaikuRelu(name="relu")(hk.BatchNorm(True, True, 0.9)(features, is_training))
        return hk.Linear(6, name="head")(jax.nn.relu(hk.Conv2D(5, 3, name="second")(features)).mean(axis=(1, 2)))

    transformed = hk.transform_with_state(forward)
    params, state = transformed.init(jax.random.key(0), INPUTS)
    return transformed, params, transformed.apply(params, state, None, INPUTS)[1]


def test_haiku_gives_its_own_logits_activations_and_gradients():
    transformed, params, state = haiku_network()
    backbone = from_haiku(transformed, params, ["relu"], input_size=(8, 8), state=state, preprocess=scaled,
                          arguments={"is_training": False})  # fmt: skip
    forward = forward_pass(backbone, IMAGES)
    logits, _ = transformed.apply(params, state, None, INPUTS, is_training=False)
    np.testing.assert_allclose(forward.logits, logits, rtol=1e-5)
    assert forward.activations["relu"].min() == 0

    def rest(features):
        def inner(features):
            features = jax.nn.relu(hk.Conv2D(5, 3, name="second")(features))
            return hk.Linear(6, name="head")(features.mean(axis=(1, 2)))

        return hk.without_apply_rng(hk.transform(inner)).apply(params, features)

    features = forward.activations["relu"]
    np.testing.assert_allclose(rest(features), logits, rtol=1e-4)
    gradient = jax.grad(lambda features: rest(features)[:, 2].sum())(features)
    maps = explain(backbone, IMAGES, method="hires_cam", layers=("relu",), target=2, raw=True)
    np.testing.assert_allclose(np.stack(maps), (features * gradient).sum(axis=-1), atol=1e-6)


def test_haiku_modules_that_are_not_called_name_those_that_are():
    net = hk.transform(lambda x: jax.nn.relu(hk.Conv2D(4, 3)(x)).mean(axis=(1, 2)))
    params = net.init(jax.random.key(0), INPUTS)
    backbone = from_haiku(net, params, ["conv2_d"], input_size=(8, 8), activation=jax.nn.relu, preprocess=scaled)
    assert forward_pass(backbone, IMAGES).activations["conv2_d"].shape == (3, 8, 8, 4)
    with pytest.raises(ValueError, match="modules that the network calls, got conv2_d_9; it called conv2_d"):
        from_haiku(net, params, ["conv2_d_9"], input_size=(8, 8))
