"""Gradients of the class score at the input, plain, averaged, integrated, and by modified backward rules."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, baseline_inputs, check_count, finish, take_sign, to_maps
from mlfem_jax.attribution.target import class_score
from mlfem_jax.backbones import Forward, Rules
from mlfem_jax.parallel import chunk_size, sum_chunks

Attribution = Float[Array, " N *S C"]


def input_gradient(
    forward: Forward, inputs: Attribution | None = None, *, score: str = "logit", rules: Rules | None = None
) -> Attribution:
    """The gradient of the class score with respect to the preprocessed image, in float32.

    Args:
        forward: the batch.
        inputs: (N, H, W, 3), or (N, *S, C), preprocessed, where the gradient is taken; None is at the images
            themselves.
        score: see `target.class_score`.
        rules: another backward pass through the layers.

    Raises:
        ValueError: `rules` for a backbone that does not take them.
    """
    hooks = {} if rules is None else {"rules": rules}

    def total(inputs):
        return class_score(forward.run(inputs, **hooks), forward.classes, score, forward.backbone.output).sum()

    return jax.grad(total)(forward.inputs if inputs is None else inputs).astype(jnp.float32)


def saliency_maps(
    forward: Forward, *, score: str = "logit", sign: str = "absolute", raw: bool = False
) -> Float[Array, " N *S"]:
    """The largest magnitude of the gradient over the colors. `sign`: the paper takes "absolute".

    Source: Simonyan et al., Deep Inside Convolutional Networks (2013), section 3.
    """
    return largest(forward, input_gradient(forward, score=score), sign, raw)


def gradient_x_input_maps(
    forward: Forward, *, score: str = "logit", sign: str = "absolute", raw: bool = False
) -> Float[Array, " N *S"]:
    """Gradient times preprocessed input, summed over the colors. The paper keeps the sign; "absolute" shows both.

    Source: Shrikumar et al., Not Just a Black Box (2016).
    """
    gradient = input_gradient(forward, score=score)
    return _summed(forward, gradient * forward.inputs.astype(jnp.float32), sign, raw)


def noisy_gradients(
    forward: Forward,
    *,
    score: str = "logit",
    samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    internal_batch_size: int = 64,
) -> tuple[Attribution, Attribution]:
    """Mean and variance of the gradient over copies of the image with Gaussian noise.

    Args:
        forward: the batch.
        score: see `target.class_score`.
        samples: noisy copies; the noise is the same for all images, so that a map does not depend on its batch.
        noise: standard deviation of the noise as a fraction of the image's range (max - min); the paper advises
            0.1 to 0.2.
        seed: of the noise.
        internal_batch_size: most images in one of the passes (at least the batch).

    Returns:
        (N, H, W, 3) each; without noise, the gradient itself and zeros.

    Raises:
        ValueError: no samples, or negative noise.
    """
    check_count("samples", samples)
    if noise < 0:
        raise ValueError(f"noise: expected a fraction of at least 0, got {noise}")
    inputs = forward.inputs.astype(jnp.float32)
    deviation = noise * jnp.ptp(inputs, axis=tuple(range(1, inputs.ndim)), keepdims=True)
    plain = input_gradient(forward, score=score)
    if noise == 0:
        return plain, jnp.zeros_like(plain)

    def moments(key):
        noisy = inputs + deviation * jax.random.normal(key, inputs.shape[1:], jnp.float32)[None]
        # Relative to the plain gradient, so that a small variance is not lost beside a large mean.
        offset = input_gradient(forward, noisy.astype(forward.inputs.dtype), score=score) - plain
        return offset, offset * offset

    keys = jax.random.split(jax.random.key(seed), samples)
    total, square = sum_chunks(moments, keys, chunk_size(len(forward.inputs), internal_batch_size, forward.platform))
    mean = total / samples
    return plain + mean, jnp.maximum(square / samples - mean * mean, 0.0)


def smooth_grad_maps(
    forward: Forward,
    *,
    score: str = "logit",
    sign: str = "absolute",
    samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    internal_batch_size: int = 64,
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """Saliency of the mean gradient over noisy copies; options as for `noisy_gradients`. Without noise, saliency.

    Source: Smilkov et al., SmoothGrad (2017), equation 1. `sign`: the paper takes "absolute" for ImageNet.
    """
    mean, _ = noisy_gradients(
        forward, score=score, samples=samples, noise=noise, seed=seed, internal_batch_size=internal_batch_size
    )
    return largest(forward, mean, sign, raw)


def var_grad_maps(
    forward: Forward,
    *,
    score: str = "logit",
    samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    internal_batch_size: int = 64,
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """The largest variance of the gradient over the colors; options as for `noisy_gradients`. Blank without noise.

    Source: Adebayo et al., Local Explanation Methods (2018), section 2 (VarGrad).
    """
    _, variance = noisy_gradients(
        forward, score=score, samples=samples, noise=noise, seed=seed, internal_batch_size=internal_batch_size
    )
    return largest(forward, variance, "positive", raw)


def integrated_gradients(
    forward: Forward,
    *,
    score: str = "logit",
    steps: int = 50,
    baseline: str = "black",
    internal_batch_size: int = 64,
) -> tuple[Attribution, Float[Array, " N"]]:
    """(image - baseline) times the mean gradient on the straight path between them, and how incomplete it is.

    The integral is the midpoint rule's.

    Args:
        forward: the batch.
        score: see `target.class_score`.
        steps: points on the path; the paper advises 20 to 300.
        baseline: see `base.baseline_inputs`; the paper takes black.
        internal_batch_size: most images in one of the passes (at least the batch).

    Returns:
        (N, H, W, 3) signed attributions; and (N,) completeness errors: |sum of the attributions - (score of the image
        - score of the baseline)| divided by |score of the image - score of the baseline|. More steps make it small.

    Raises:
        ValueError: no steps, or an unknown baseline.

    Source:
        Sundararajan et al., Axiomatic Attribution (2017), equations 1 and 3, proposition 1.
    """
    check_count("steps", steps)
    start = jnp.broadcast_to(baseline_inputs(forward, baseline), forward.inputs.shape)
    change = forward.inputs - start

    def gradient(fraction):
        return input_gradient(forward, start + fraction.astype(start.dtype) * change, score=score)

    fractions = (jnp.arange(steps, dtype=jnp.float32) + 0.5) / steps
    total = sum_chunks(gradient, fractions, chunk_size(len(forward.inputs), internal_batch_size, forward.platform))
    attribution = change.astype(jnp.float32) * total / steps
    end = class_score(forward.logits, forward.classes, score, forward.backbone.output)
    difference = end - class_score(forward.run(start), forward.classes, score, forward.backbone.output)
    whole = attribution.sum(axis=tuple(range(1, attribution.ndim)))
    return attribution, jnp.abs(whole - difference) / jnp.abs(difference)


def integrated_gradients_maps(
    forward: Forward,
    *,
    score: str = "logit",
    sign: str = "absolute",
    steps: int = 50,
    baseline: str = "black",
    internal_batch_size: int = 64,
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """`integrated_gradients` summed over the colors. The paper keeps the sign; "absolute" shows both."""
    attribution, _ = integrated_gradients(
        forward, score=score, steps=steps, baseline=baseline, internal_batch_size=internal_batch_size
    )
    return _summed(forward, attribution, sign, raw)


def modified_gradient(forward: Forward, *, rule: str, score: str = "logit") -> Attribution:
    """The gradient at the input, where a ReLU (or ReLU6) lets only positive gradients back.

    Args:
        forward: the batch.
        rule: "guided", where the unit was active too; "deconvnet", whether it was active or not.
        score: see `target.class_score`.

    Raises:
        ValueError: a backbone without ReLUs, or whose ReLUs cannot be exchanged.

    Source:
        Springenberg et al., Striving for Simplicity (2014), section 3.4. Zeiler and Fergus, Visualizing and
        Understanding Convolutional Networks (2013), section 2.1; max pools go back to where the maximum was.
    """
    called: list[Array] = []

    def noted(relu):
        def note(inputs):
            called.append(inputs)
            return relu(inputs)

        return note

    relu, relu6 = (noted(_relu(top, guided=rule == "guided")) for top in (jnp.inf, 6.0))
    gradient = input_gradient(forward, score=score, rules=Rules(relu=relu, relu6=relu6))
    if not called:
        raise ValueError(
            f"backbone: expected a network with ReLUs, which guided backpropagation and DeconvNet change, got "
            f"{forward.backbone.name!r}, which has none; the plain gradient is the method saliency"
        )
    return gradient


def modified_gradient_maps(
    forward: Forward, *, rule: str, score: str = "logit", sign: str = "absolute", raw: bool = False
) -> Float[Array, " N *S"]:
    """`modified_gradient`, the largest over the colors. The papers show it as a signed picture in color."""
    return largest(forward, modified_gradient(forward, rule=rule, score=score), sign, raw)


def _relu(top: float, *, guided: bool):
    """A ReLU that ends at `top`, whose backward pass drops negative gradients."""

    def value(inputs):
        return jnp.clip(inputs, 0, top)

    def backward(active, gradient):
        keep = (gradient > 0) & active if guided else gradient > 0
        return (jnp.where(keep, gradient, jnp.zeros_like(gradient)),)

    relu = jax.custom_vjp(value)
    relu.defvjp(lambda inputs: (value(inputs), (inputs > 0) & (inputs < top)), backward)
    return relu


def largest(forward: Forward, attribution: Attribution, sign: str, raw: bool) -> Float[Array, " N *S"]:
    """The color of the largest part; raw, that of the largest magnitude, with its sign."""
    if raw:
        strongest = jnp.abs(attribution).argmax(axis=-1, keepdims=True)
        return jnp.take_along_axis(attribution, strongest, axis=-1)[..., 0]
    return to_maps(take_sign(attribution, sign).max(axis=-1), forward.size)


def _summed(forward: Forward, attribution: Attribution, sign: str, raw: bool) -> Float[Array, " N *S"]:
    return finish(attribution.sum(axis=-1), forward.size, sign=sign, raw=raw)


METHODS = {
    "saliency": Entry(saliency_maps, "gradient", "the magnitude of the gradient at the input", of_class=True),
    "gradient_x_input": Entry(gradient_x_input_maps, "gradient", "gradient times input", of_class=True),
    "smooth_grad": Entry(smooth_grad_maps, "gradient", "SmoothGrad: the mean gradient of noisy copies", of_class=True),
    "var_grad": Entry(var_grad_maps, "gradient", "VarGrad: the gradient's variance over noisy copies", of_class=True),
    "integrated_gradients": Entry(
        integrated_gradients_maps, "gradient", "Integrated Gradients: along the path from a black image", of_class=True
    ),
    "guided_backprop": Entry(
        functools.partial(modified_gradient_maps, rule="guided"),
        "gradient",
        "guided backpropagation: positive gradients through active ReLUs",
        of_class=True,
    ),
    "deconvnet": Entry(
        functools.partial(modified_gradient_maps, rule="deconvnet"),
        "gradient",
        "DeconvNet: positive gradients through all ReLUs",
        of_class=True,
    ),
}
