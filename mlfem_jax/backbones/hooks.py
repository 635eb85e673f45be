"""How the parts of a network compute, as arguments: LRP and guided backpropagation exchange them.

A network called with `PLAIN` is the network. Other rules leave its values as they are and change its gradient.
"""

import dataclasses
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Affine = Callable[[Callable[[Array, Array], Array], Array, Array, Array], Array]
"""(function, inputs, kernel, bias) to function(inputs, kernel) + bias; function is linear in both."""

Tap = Callable[[str, Array], Array]
"""(layer name, activation) to the activation that the network goes on with."""


def plain_affine(
    function: Callable[[Array, Array], Array],
    inputs: Float[Array, "..."],
    kernel: Float[Array, "..."],
    bias: Float[Array, "..."],
) -> Float[Array, "..."]:
    """function(inputs, kernel) + bias."""
    return function(inputs, kernel) + bias


def plain_call(function: Callable[[Array], Array], inputs: Float[Array, "..."]) -> Float[Array, "..."]:
    """function(inputs)."""
    return function(inputs)


def plain_normalize(
    inputs: Float[Array, "*N C"], weight: Float[Array, " C"], bias: Float[Array, " C"], epsilon: float
) -> Float[Array, "*N C"]:
    """Layer norm over the last axis, in float32: less the mean, over the deviation, times weight, plus bias."""
    wide = inputs.astype(jnp.float32)
    centered = wide - wide.mean(axis=-1, keepdims=True)
    normed = centered * jax.lax.rsqrt((centered * centered).mean(axis=-1, keepdims=True) + epsilon)
    weight, bias = (jnp.expand_dims(leaf, range(inputs.ndim - 1)) for leaf in (weight, bias))
    return normed.astype(inputs.dtype) * weight + bias


def plain_product(
    function: Callable[[Array, Array], Array], weights: Float[Array, "..."], values: Float[Array, "..."]
) -> Float[Array, "..."]:
    """function(weights, values)."""
    return function(weights, values)


def no_tap(name: str, activation: Float[Array, "..."]) -> Float[Array, "..."]:
    """The activation as it is."""
    return activation


@dataclasses.dataclass(frozen=True)
class Rules:
    """One function for each kind of part that a network is made of.

    Attributes:
        first: of the convolution that sees the image.
        conv: of the other convolutions.
        dense: of the dense layers.
        average: of the mean pools, (function, inputs) to function(inputs).
        max_pool: of the max pools, likewise.
        add: of a residual block's two paths.
        relu: of the ReLUs.
        relu6: of the ReLU6s.
        gelu: of any other activation function, which changes each number by itself (GELU, SiLU, hard swish, a gate's
            sigmoid), (function, inputs) to function(inputs).
        normalize: of the layer norms, (inputs, weight, bias, epsilon), see `plain_normalize`.
        softmax: of the attention, over the last axis, (function, scores) to function(scores).
        product: of two activations, (function, weights, values) to function(weights, values), linear in each: queries
            and keys, attention and values, a gate and what passes it.
    """

    first: Affine = plain_affine
    conv: Affine = plain_affine
    dense: Affine = plain_affine
    average: Callable[[Callable[[Array], Array], Array], Array] = plain_call
    max_pool: Callable[[Callable[[Array], Array], Array], Array] = plain_call
    add: Callable[[Array, Array], Array] = operator.add
    relu: Callable[[Array], Array] = jax.nn.relu
    relu6: Callable[[Array], Array] = jax.nn.relu6
    gelu: Callable[[Callable[[Array], Array], Array], Array] = plain_call
    normalize: Callable[[Array, Array, Array, float], Array] = plain_normalize
    softmax: Callable[[Callable[[Array], Array], Array], Array] = plain_call
    product: Callable[[Callable[[Array, Array], Array], Array, Array], Array] = plain_product


PLAIN = Rules()
