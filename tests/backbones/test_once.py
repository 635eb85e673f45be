"""An activation that many read is computed once: XLA's own count of operations and bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax.backbones.networks.layers import convolve
from mlfem_jax.backbones.networks.once import computed_once

pytestmark = pytest.mark.usefixtures("stored_once")

SHAPE = (2, 32, 32, 24)


def plain(function, inputs):
    return function(inputs)


def fem_of_filtered(call, inputs, kernel):
    """A depthwise convolution with ReLU6, read by FEM's mean, deviation and mask."""
    activation = call(lambda inputs: jax.nn.relu6(convolve(inputs, kernel, groups=SHAPE[-1])), inputs)
    mean, deviation = (f(activation, axis=(1, 2), keepdims=True) for f in (jnp.mean, jnp.std))
    return jnp.where(activation >= mean + 2 * deviation, mean, 0.0).sum(axis=-1)


def one_by_one(call, inputs, kernel):
    return jax.vmap(lambda example: fem_of_filtered(call, example[None], kernel)[0])(inputs)


def cost(function, call):
    kernel = jax.ShapeDtypeStruct((3, 3, 1, SHAPE[-1]), jnp.float32)
    lowered = jax.jit(lambda inputs, kernel: function(call, inputs, kernel)).lower(
        jax.ShapeDtypeStruct(SHAPE, jnp.float32), kernel
    )
    return lowered.compile().cost_analysis()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="XLA computes again on a CPU alone")
@pytest.mark.parametrize("function", [fem_of_filtered, one_by_one])
def test_it_is_not_computed_again(function):
    once, again = cost(function, computed_once), cost(function, plain)
    assert once["flops"] < 0.7 * again["flops"]
    assert once["bytes accessed"] < 0.9 * again["bytes accessed"]


def test_values_and_gradients_are_the_functions_own():
    rng = np.random.default_rng(0)
    inputs, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (SHAPE, (3, 3, 1, SHAPE[-1])))
    for function in (fem_of_filtered, one_by_one):
        found, expected = (
            jax.value_and_grad(lambda inputs, f=function, c=call: f(c, inputs, kernel).sum())(inputs)
            for call in (computed_once, plain)
        )
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5)
