"""Layer-wise relevance propagation: the class score handed back, layer by layer, to what contributed to it.

It is written as another backward pass: in a network whose parts follow `rules`, what `jax.vjp` carries back is not a
gradient but the relevance, and every part splits it among its inputs by its own rule. For an affine part with outputs
z_j = sum_i x_i w_ij + b_j, input i receives the sum over j of r_j q_ij / (sum_i q_ij + the bias' share), where

- epsilon: q_ij = x_i w_ij;
- gamma: q_ij = x_i w_ij + gamma times the part of x_i w_ij that has the sign of z_j;
- alpha1_beta0: q_ij = max(x_i w_ij, 0), the z+ rule;
- z-box, for the image: q_ij = x_i w_ij - low_i max(w_ij, 0) - high_i min(w_ij, 0).

ReLUs hand relevance through; max pools give it to the maximum; means and residual sums follow the epsilon rule. The
relevance of the image is the logit, minus what the biases took (z-box has no bias).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, baseline_inputs, finish
from mlfem_jax.attribution.target import class_score
from mlfem_jax.backbones import Affine, Forward, Rules

Linear = Callable[[Array, Array], Array]
Split = Callable[[Linear, Array, Array, Array, Array], Array]
"""(function, inputs, kernel, bias, relevance of the outputs) to the relevance of the inputs."""


def relevance(
    forward: Forward,
    *,
    rule: str = "composite",
    first: str = "z_box",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
) -> Float[Array, " N *S C"]:
    """The relevance of every value of the preprocessed image for the logit, signed; computed in float32 throughout.

    Args:
        forward: the batch; several classes start from their logits together.
        rule: of the convolutions and dense layers; "composite" is gamma for the convolutions and epsilon for the dense
            layers.
        first: rule of the convolution that sees the image: "z_box", bounded by a black and a white image, or the
            "same" as of the others.
        epsilon: added to every denominator, with its sign, so that none is zero; what it takes is lost.
        gamma: how much the gamma rule favors contributions of the output's sign.

    Returns:
        (N, H, W, 3) float32. Without biases it sums to the logit, but for what alpha1_beta0 loses at outputs without
        any positive contribution. Behind a ReLU those receive no relevance; the projections of EfficientNet-Lite have
        no ReLU, and with the trained weights, their biases left out, 0.4 and 0.5 % of the relevance of two photographs
        ends there, all of it at the first block's; epsilon and composite lose less than 0.01 %.

    Raises:
        ValueError: an unknown rule, or a backbone whose parts cannot follow other rules; it lists what is possible.

    Source:
        Bach et al., On Pixel-Wise Explanations (2015), equations 58 and 60 (epsilon, alpha-beta). Montavon et al.,
        Layer-Wise Relevance Propagation: An Overview (2019), table 10.1 (gamma, z-box) and section 10.3 (composite).
        Gamma for contributions of both signs: as in zennit (Anders et al., 2021).
    """
    forward = dataclasses.replace(
        forward, backbone=forward.backbone.astype(jnp.float32), inputs=forward.inputs.astype(jnp.float32)
    )
    rules = _rules(forward, rule, first, epsilon, gamma)
    with jax.default_matmul_precision("highest"):  # else an accelerator loses relevance in the third digit
        logits, pull_back = jax.vjp(lambda inputs: forward.run(inputs, rules=rules), forward.inputs)
        # One for each class to explain; of a function of the logits, how much each of them counts.
        chosen = jax.grad(lambda logits: class_score(logits, forward.classes).sum())(logits)
        return pull_back(logits * chosen)[0]


def lrp_maps(
    forward: Forward,
    *,
    rule: str = "composite",
    first: str = "z_box",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    sign: str = "positive",
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """`relevance` summed over the colors. `sign`: the papers show both signs in two colors."""
    values = relevance(forward, rule=rule, first=first, epsilon=epsilon, gamma=gamma)
    return finish(values.sum(axis=-1), forward.size, sign=sign, raw=raw)


def _rules(forward: Forward, rule: str, first: str, epsilon: float, gamma: float) -> Rules:
    if rule not in ("composite", "epsilon", "gamma", "alpha1_beta0"):
        raise ValueError(f"rule: expected 'composite', 'epsilon', 'gamma' or 'alpha1_beta0', got {rule!r}")
    if first not in ("z_box", "same"):
        raise ValueError(f"first: expected 'z_box' or 'same', got {first!r}")
    if epsilon <= 0 or gamma < 0:
        raise ValueError(f"epsilon, gamma: expected epsilon > 0 and gamma >= 0, got {epsilon} and {gamma}")
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
    )


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


METHODS = {
    "lrp": Entry(lrp_maps, "gradient", "LRP: the logit handed back from layer to layer", of_class=True),
}
