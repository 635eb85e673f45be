"""DeepLIFT: how each part's change from a reference image is handed back to its inputs.

Image and reference go through the network as one batch. What is carried back is a multiplier, change of the score over
change of a value; at an affine part that is the gradient, at a ReLU the change of its output over the change of its
input (the rescale rule), where the gradient has only the slope at the image.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, baseline_inputs, finish, no_rule
from mlfem_jax.attribution.target import class_score
from mlfem_jax.backbones import Forward, Rules


def deep_lift(forward: Forward, *, baseline: str = "black") -> Float[Array, " N *S C"]:
    """The contribution of each value of the preprocessed image to how the logit differs from the reference's.

    Args:
        forward: the batch; a function of the logits is taken as linear around the image's.
        baseline: the reference, see `base.baseline_inputs`.

    Returns:
        (N, H, W, 3) float32, signed: multiplier times (image - reference). They sum to the difference of the logits.

    Raises:
        ValueError: unknown baseline, or a backbone whose parts cannot follow other rules.

    Source:
        Shrikumar et al., Learning Important Features Through Propagating Activation Differences (2017), section 3.5.1
        (rescale rule). A max pool, for which the paper has no rule, gives the part of its change up to the larger of
        both maxima to where the image's is, the rest to where the reference's is, as captum does; windows that
        overlap are added up, where captum keeps the last one.
    """
    inputs = forward.inputs
    reference = jnp.broadcast_to(baseline_inputs(forward, baseline), inputs.shape)
    rules = Rules(
        relu=_rescaled(jax.nn.relu),
        relu6=_rescaled(jax.nn.relu6),
        gelu=lambda function, both: _rescaled(function)(both),
        max_pool=_pooled,
        normalize=no_rule("layer norms", "DeepLIFT"),
        softmax=no_rule("attention", "DeepLIFT"),
        product=no_rule("gates", "DeepLIFT"),
    )

    def total(inputs):
        logits = forward.run(jnp.concatenate([inputs, reference]), rules=rules)
        return class_score(logits[: len(inputs)], forward.classes).sum()

    return (jax.grad(total)(inputs) * (inputs - reference)).astype(jnp.float32)


def _rescaled(activation: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The activation function of images and references; back goes its change over its input's change."""

    def backward(both, gradient):
        inputs, reference = jnp.split(both, 2)
        gradient, _ = jnp.split(gradient, 2)
        outputs, pull_back = jax.vjp(activation, inputs)
        change = inputs - reference
        slope = (outputs - activation(reference)) / _nonzero(change)
        multiplier = jnp.where(change != 0, slope * gradient, pull_back(gradient)[0])
        return (jnp.concatenate([multiplier, jnp.zeros_like(multiplier)]),)

    rescaled = jax.custom_vjp(activation)
    rescaled.defvjp(lambda both: (activation(both), both), backward)
    return rescaled


def _pooled(pool: Callable[[Array], Array], both: Array) -> Array:
    """The max pool of images and references; back goes its change over the change of where the maxima are."""

    def backward(both, gradient):
        inputs, reference = jnp.split(both, 2)
        gradient, _ = jnp.split(gradient, 2)
        maximum, to_maximum = jax.vjp(pool, inputs)
        reference_maximum, to_reference_maximum = jax.vjp(pool, reference)
        top = jnp.maximum(maximum, reference_maximum)
        given = to_maximum(gradient * (top - reference_maximum))[0]
        given = given + to_reference_maximum(gradient * (maximum - top))[0]
        change = inputs - reference
        multiplier = jnp.where(change != 0, given / _nonzero(change), to_maximum(gradient)[0])
        return (jnp.concatenate([multiplier, jnp.zeros_like(multiplier)]),)

    pooled = jax.custom_vjp(pool)
    pooled.defvjp(lambda both: (pool(both), both), backward)
    return pooled(both)


def _nonzero(values: Array) -> Array:
    return jnp.where(values != 0, values, jnp.ones_like(values))


def deep_lift_maps(
    forward: Forward, *, baseline: str = "black", sign: str = "absolute", raw: bool = False
) -> Float[Array, " N *S"]:
    """`deep_lift` summed over the colors. The paper keeps the sign; "absolute" shows both."""
    return finish(deep_lift(forward, baseline=baseline).sum(axis=-1), forward.size, sign=sign, raw=raw)


METHODS = {
    "deep_lift": Entry(deep_lift_maps, "gradient", "DeepLIFT: changes from a black image handed back", of_class=True),
}
