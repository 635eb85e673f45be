"""The rules of layer-wise relevance propagation, as another backward pass of a network's parts."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlfem_jax.attribution.base import baseline_inputs
from mlfem_jax.backbones import Affine, Forward, Rules

Linear = Callable[[Array, Array], Array]
Split = Callable[[Linear, Array, Array, Array, Array], Array]
"""(function, inputs, kernel, bias, relevance of the outputs) to the relevance of the inputs."""


def relevance_rules(forward: Forward, *, rule: str, first: str, epsilon: float, gamma: float, attention: str) -> Rules:
    """The rules by which relevance goes back, see `lrp.relevance`.

    Raises:
        ValueError: an unknown rule or value.
    """
    if rule not in ("composite", "epsilon", "gamma", "alpha1_beta0"):
        raise ValueError(f"rule: expected 'composite', 'epsilon', 'gamma' or 'alpha1_beta0', got {rule!r}")
    if first not in ("z_box", "same"):
        raise ValueError(f"first: expected 'z_box' or 'same', got {first!r}")
    if epsilon <= 0 or gamma < 0:
        raise ValueError(f"epsilon, gamma: expected epsilon > 0 and gamma >= 0, got {epsilon} and {gamma}")
    if attention not in ("attn", "cp"):
        raise ValueError(f"attention: expected 'attn' or 'cp', got {attention!r}")
    splits = {"epsilon": _epsilon(epsilon), "gamma": _gamma(gamma, epsilon), "alpha1_beta0": _alpha1_beta0(epsilon)}
    even = _affine(splits["epsilon"])
    conv = splits["gamma" if rule == "composite" else rule]
    dense = splits["epsilon" if rule == "composite" else rule]
    if first == "z_box":
        if not forward.backbone.photos:
            raise ValueError("first: expected 'same' for data other than photographs, which has no bounds, got 'z_box'")
        ends = [baseline_inputs(forward, end) for end in ("black", "white")]
        start = _z_box(jnp.minimum(*ends), jnp.maximum(*ends), epsilon)
    else:
        start = conv
    return Rules(
        first=_affine(start),
        conv=_affine(conv),
        dense=_affine(dense),
        average=lambda function, inputs: _linear(even, lambda x, one: function(x) * one, inputs, ()),
        add=lambda one, other: _linear(even, jnp.matmul, jnp.stack([one, other], axis=-1), (2,)),
        relu=_passing(jax.nn.relu),
        relu6=_passing(jax.nn.relu6),
        gelu=lambda function, inputs: _passing(function)(inputs),
        normalize=functools.partial(_normalize, even),
        softmax=functools.partial(_softmax, passes=attention == "attn"),
        product=functools.partial(_product, epsilon=epsilon, even=attention == "attn"),
    )


def _normalize(affine: Affine, inputs: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """A layer norm as an affine part: its deviation is a constant."""

    def normed(inputs, weight):
        centered = inputs - inputs.mean(axis=-1, keepdims=True)
        variance = (centered * centered).mean(axis=-1, keepdims=True)
        return centered * jax.lax.stop_gradient(jax.lax.rsqrt(variance + epsilon)) * weight

    weight, bias = (jnp.expand_dims(leaf, range(inputs.ndim - 1)) for leaf in (weight, bias))
    return affine(normed, inputs, weight, bias)


def _softmax(function: Callable[[Array], Array], scores: Array, *, passes: bool) -> Array:
    def forward(scores):
        softmax = function(scores)
        return softmax, (scores, softmax)

    def backward(operands, relevance):
        scores, softmax = operands
        if not passes:
            return (jnp.zeros_like(scores),)
        return (scores * (relevance - softmax * relevance.sum(axis=-1, keepdims=True)),)

    layer = jax.custom_vjp(lambda scores: function(scores))
    layer.defvjp(forward, backward)
    return layer(scores)


def _product(function: Linear, weights: Array, values: Array, *, epsilon: float, even: bool) -> Array:
    """A product of two activations, whose relevance both get, half by half, or the second alone."""

    def backward(operands, relevance):
        weights, values = operands
        total, transpose = jax.vjp(function, weights, values)
        for_weights, for_values = transpose(_quotient(relevance, 2 * total if even else total, epsilon))
        return weights * for_weights if even else jnp.zeros_like(weights), values * for_values

    layer = jax.custom_vjp(function)
    layer.defvjp(lambda *operands: (function(*operands), operands), backward)
    return layer(weights, values)


def _affine(split: Split) -> Affine:
    """An affine part whose backward pass splits relevance."""

    def affine(function, inputs, kernel, bias):
        def value(inputs, kernel, bias):
            return function(inputs, kernel) + bias

        def backward(operands, relevance):
            inputs, kernel, bias = operands
            return split(function, inputs, kernel, bias, relevance), None, None

        layer = jax.custom_vjp(value)
        layer.defvjp(lambda *operands: (value(*operands), operands), backward)
        return layer(inputs, kernel, bias)

    return affine


def _linear(affine: Affine, function: Linear, inputs: Array, weights: tuple[int, ...]) -> Array:
    """A part that has no parameters, as an affine one with weights of 1 and without a bias."""
    return affine(function, inputs, jnp.ones(weights, inputs.dtype), jnp.zeros((), inputs.dtype))


def _passing(activation: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The activation function; relevance goes through it unchanged."""
    passing = jax.custom_vjp(activation)
    passing.defvjp(lambda inputs: (activation(inputs), None), lambda _, relevance: (relevance,))
    return passing


def _above(values: Array) -> Array:
    return jnp.maximum(values, 0.0)


def _below(values: Array) -> Array:
    return jnp.minimum(values, 0.0)


def _quotient(relevance: Array, total: Array, epsilon: float) -> Array:
    return relevance / (total + jnp.where(total >= 0, epsilon, -epsilon))


def _epsilon(epsilon: float) -> Split:
    def split(function, inputs, kernel, bias, relevance):
        total, transpose = jax.vjp(lambda x: function(x, kernel), inputs)
        return inputs * transpose(_quotient(relevance, total + bias, epsilon))[0]

    return split


def _alpha1_beta0(epsilon: float) -> Split:
    def split(function, inputs, kernel, bias, relevance):
        def positive(above, below):
            return function(above, _above(kernel)) + function(below, _below(kernel))

        above, below = _above(inputs), _below(inputs)
        total, transpose = jax.vjp(positive, above, below)
        for_above, for_below = transpose(_quotient(relevance, total + _above(bias), epsilon))
        return above * for_above + below * for_below

    return split


def _gamma(gamma: float, epsilon: float) -> Split:
    def split(function, inputs, kernel, bias, relevance):
        above_below, count = jnp.concatenate([_above(inputs), _below(inputs)]), len(inputs)
        up, transpose_up = jax.vjp(lambda x: function(x, kernel + gamma * _above(kernel)), above_below)
        down, transpose_down = jax.vjp(lambda x: function(x, kernel + gamma * _below(kernel)), above_below)
        # Contributions are positive where input and kernel agree in sign, negative where they do not.
        favoring_positive = up[:count] + down[count:] + bias + gamma * _above(bias)
        favoring_negative = down[:count] + up[count:] + bias + gamma * _below(bias)
        positive, zero = function(inputs, kernel) + bias >= 0, jnp.zeros_like(relevance)
        to_positive = _quotient(jnp.where(positive, relevance, zero), favoring_positive, epsilon)
        to_negative = _quotient(jnp.where(positive, zero, relevance), favoring_negative, epsilon)
        (for_up,) = transpose_up(jnp.concatenate([to_positive, to_negative]))
        (for_down,) = transpose_down(jnp.concatenate([to_negative, to_positive]))
        shares = above_below * (for_up + for_down)
        return shares[:count] + shares[count:]

    return split


def _z_box(low: Array, high: Array, epsilon: float) -> Split:
    def split(function, inputs, kernel, bias, relevance):
        lows, highs = jnp.broadcast_to(low, inputs.shape), jnp.broadcast_to(high, inputs.shape)

        def contributions(x, low, high):
            return function(x, kernel) - function(low, _above(kernel)) - function(high, _below(kernel))

        total, transpose = jax.vjp(contributions, inputs, lows, highs)
        shares = transpose(_quotient(relevance, total, epsilon))
        return inputs * shares[0] + lows * shares[1] + highs * shares[2]

    return split
