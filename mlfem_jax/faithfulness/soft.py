"""A faithfulness test with a gradient to the map, by which a map can be trained."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Key

from mlfem_jax.backbones import Backbone, forward_pass
from mlfem_jax.faithfulness.baseline import BaselineName, baseline_image
from mlfem_jax.faithfulness.common import Image, Map, Output, Target, confidences, or_predicted, ready_pair


@functools.partial(jax.jit, static_argnames=("draws", "softness", "baseline", "blur_sigma_px", "output"))
def soft_abpc(
    backbone: Backbone,
    image: Image,
    importance: Map,
    key: Key[Array, ""],
    *,
    target: Target = None,
    draws: int = 1,
    softness: float = 0.25,
    baseline: BaselineName = "mean",
    blur_sigma_px: float = 10.0,
    output: Output = "softmax",
) -> Float32[Array, ""]:
    """`abpc` estimated from a few shares of the image, cut out softly: higher is better, and the map has a gradient.

    A share of the image is drawn between none and all. Its strongest pixels are kept and the others turned into the
    baseline, or the other way round; the confidence of the first less that of the second is a draw of the area between
    the curves. The cut is a sigmoid around the map's own quantile.

    Args:
        backbone: see `insertion_curve`.
        image: see `insertion_curve`.
        importance: see `insertion_curve`.
        key: of the shares.
        target: see `insertion_curve`.
        draws: shares, one from each part of so many equal ones; two forwards each, and one where there is no target.
        softness: width of the cut, in standard deviations of the map. Towards 0 the mean over many draws is `abpc`,
            but for the curves' ends, which are never drawn.
        baseline: see `insertion_curve`.
        blur_sigma_px: see `insertion_curve`.
        output: see `insertion_curve`.

    Returns:
        A number from -1 to 1 for a probability; 0 for a constant map, where both halves are the same.

    Raises:
        ValueError: as `insertion_curve`; no draw, or a softness of 0 or less.

    Source:
        Ours, after `abpc`. Maps trained on removing pixels softly go back to Fong and Vedaldi 2017, arXiv:1704.03296.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(1, 2),
        ...                          preprocess=lambda x: x)
        >>> image, map = jnp.array([[[0.25, 0, 0], [0.5, 0, 0]]]), jnp.array([[0.0, 1.0]])
        >>> found = soft_abpc(backbone, image, map, jax.random.key(0), softness=0.01, baseline="black", output="logit")
        >>> print(round(float(found), 3))
        0.25
    """
    if draws < 1 or not softness > 0:
        raise ValueError(f"draws, softness: expected at least 1, and a width above 0, got {draws} and {softness}")
    image = ready_pair(backbone, image, importance)
    behind = baseline_image(image, baseline, blur_sigma_px=blur_sigma_px)
    values = jnp.asarray(importance, jnp.float32)
    values = values - values.mean()
    variance = jnp.square(values).mean()
    values = values / jnp.sqrt(jnp.where(variance > 0, variance, 1.0))  # the root of 0 has no gradient
    shares = (jnp.arange(draws, dtype=jnp.float32) + jax.random.uniform(key, (draws,), jnp.float32)) / draws
    cuts = jax.lax.stop_gradient(jnp.quantile(values, 1 - shares)).reshape(draws, *[1] * values.ndim)
    strong = jax.nn.sigmoid((values[None] - cuts) / softness)[..., None]
    kept = strong * image[None] + (1 - strong) * behind[None]
    without = (1 - strong) * image[None] + strong * behind[None]
    target = or_predicted(target, backbone, image)
    logits = forward_pass(backbone, jnp.concatenate([kept, without])).logits
    of_kept, of_rest = jnp.split(confidences(logits, target, output=output), 2)
    return (of_kept - of_rest).mean()
