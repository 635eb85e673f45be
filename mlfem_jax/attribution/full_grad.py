"""FullGrad: what the input and every bias give to the class score, place by place.

A network of affine parts and ReLUs is, around an image, a linear function: its logit is the sum of gradient times
input and of gradient times bias, over all the parts that have one. The bias terms of a convolution have places, and so
make a map.

They are gathered on the way back: a canvas of zeros is handed to every part, which does not use it, and each part's
backward pass leaves there the map of its bias as the canvas' gradient. Automatic differentiation adds them up.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, finish, without_rule
from mlfem_jax.attribution.target import class_score
from mlfem_jax.backbones import Forward, Rules
from mlfem_jax.importance import normalize as min_max
from mlfem_jax.upsampling import upsample

Shown = Callable[[Float[Array, "*s C"], tuple[int, ...]], Float[Array, "*S"]]
"""(signed terms of one part and image, size) to what the map of that part is."""


def rescaled_magnitude(terms: Float[Array, "*s C"], size: tuple[int, ...]) -> Float[Array, "*S"]:
    """Magnitudes scaled to [0, 1] over all channels together, summed over the channels, upsampled.

    Example:
        >>> print(rescaled_magnitude(jnp.array([[[-4.0, 0.0]], [[2.0, 1.0]]]), (2, 1)))
        [[1.  ]
         [0.75]]
    """
    return upsample(min_max(jnp.abs(terms)).sum(axis=-1), size)


def full_gradient(
    forward: Forward, *, score: str = "logit", shown: Shown = rescaled_magnitude
) -> Float[Array, " N *S"]:
    """The sum of the maps of gradient times input and of gradient times bias of every convolution.

    Args:
        forward: the batch.
        score: see `target.class_score`.
        shown: from the terms of one part, (*s, C) float32, to its map (*S).

    Returns:
        (N, *S) float32.

    Raises:
        ValueError: a backbone whose parts cannot follow other rules, or with parts that are not piecewise linear.

    Source:
        Srinivas and Fleuret, Full-Gradient Representation (2019), equation 7 and section 4.1. A ReLU6 that is at 6 has
        an implicit bias of 6 (section 3.1), which counts as one. Biases of dense layers have no place and are left
        out, as in the authors' code; upsampling is ours (half-pixel centers), theirs aligns corners.
    """
    size = forward.size

    def drawn(terms: Float[Array, "N *s C"]) -> Float[Array, " N *S"]:
        return jax.vmap(lambda one: shown(one.astype(jnp.float32), size))(terms)

    def total(inputs, canvas):
        logits = forward.run(inputs, rules=_rules(canvas, drawn))
        return class_score(logits, forward.classes, score, forward.backbone.output).sum()

    canvas = jnp.zeros((len(forward.inputs), *size), jnp.float32)
    gradient, of_biases = jax.grad(total, argnums=(0, 1))(forward.inputs, canvas)
    return drawn(gradient.astype(jnp.float32) * forward.inputs.astype(jnp.float32)) + of_biases


def _rules(canvas: Float[Array, " N *S"], drawn: Callable[[Array], Array]) -> Rules:
    def affine(function, inputs, kernel, bias):
        def value(canvas, inputs, kernel, bias):
            return function(inputs, kernel) + bias

        def backward(operands, gradient):
            inputs, kernel, bias = operands
            (for_inputs,) = jax.vjp(lambda x: function(x, kernel), inputs)[1](gradient)
            return drawn(gradient * bias), for_inputs, None, None

        layer = jax.custom_vjp(value)
        layer.defvjp(lambda *operands: (value(*operands), operands[1:]), backward)
        return layer(canvas, inputs, kernel, bias)

    def relu6(inputs):
        if inputs.ndim < 3:
            return jax.nn.relu6(inputs)
        bounded = jax.custom_vjp(lambda canvas, inputs: jax.nn.relu6(inputs))

        def backward(inputs, gradient):
            zero = jnp.zeros_like(gradient)
            between = jnp.where((inputs > 0) & (inputs < 6), gradient, zero)
            return drawn(jnp.where(inputs > 6, 6 * gradient, zero)), between

        bounded.defvjp(lambda canvas, inputs: (jax.nn.relu6(inputs), inputs), backward)
        return bounded(canvas, inputs)

    smooth = without_rule("full_grad", "gelu", "normalize", "softmax", "product")
    return Rules(first=affine, conv=affine, relu6=relu6, **smooth)


def full_grad_maps(forward: Forward, *, score: str = "logit", raw: bool = False) -> Float[Array, " N *S"]:
    """`full_gradient` of each image, which has no sign."""
    return finish(full_gradient(forward, score=score), forward.size, sign="positive", raw=raw)


METHODS = {
    "full_grad": Entry(
        full_grad_maps, "gradient", "FullGrad: gradient times input and times every bias", of_class=True
    ),
}
