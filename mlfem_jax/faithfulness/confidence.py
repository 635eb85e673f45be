"""What is left of the network's confidence when it sees only what the map shows."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

from mlfem_jax.backbones import Backbone, forward_pass
from mlfem_jax.faithfulness.baseline import BaselineName, baseline_image
from mlfem_jax.faithfulness.common import (
    Image,
    Map,
    Output,
    Target,
    confidences,
    defined,
    ready_pair,
)
from mlfem_jax.importance import normalize


@functools.partial(jax.jit, static_argnames=("baseline", "blur_sigma_px", "output"))
def confidence_change(
    backbone: Backbone,
    image: Image,
    importance: Map,
    *,
    target: Target = None,
    baseline: BaselineName = "black",
    blur_sigma_px: float = 10.0,
    output: Output = "softmax",
) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
    """How the confidence changes when only what the map shows is kept: the terms of average drop and average increase.

    With Y the confidence for the image and O that for the image times the map, drop is max(0, Y - O) / Y and increase
    is 1 if O > Y, else 0. Their means over a data set are the average drop (lower is better) and the average increase
    (higher is better).

    Args:
        backbone: the network.
        image: (H, W, 3) at the size of its input, uint8 or float in [0, 1].
        importance: (H, W), scaled to [0, 1] here.
        target: the class; (K,) classes, whose confidences are summed; a `backbones.LogitFunction`, whose value stands
            in for the confidence; None is the class that the network prefers for the image.
        baseline: what a pixel turns into where the map is low; see `insertion_curve`.
        blur_sigma_px: see `insertion_curve`.
        output: "softmax" or "sigmoid"; of a "logit", which may be negative, the share makes no sense.

    Returns:
        (drop from 0 to 1, increase 0 or 1) float32; NaN for a map that is constant or not finite. The drop of a
        confidence of 0 is 0.

    Raises:
        ValueError: shapes that differ, an unknown option.

    Source:
        Chattopadhyay et al. 2018, "Grad-CAM++", doi:10.1109/WACV.2018.00097, section 5.1.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(1, 2),
        ...                          preprocess=lambda x: x)
        >>> image, map = jnp.array([[[1.0, 0, 0], [0, 1, 0]]]), jnp.array([[1.0, 0.0]])
        >>> drop, increase = confidence_change(backbone, image, map, target=0)
        >>> print(drop, increase)
        0.0 1.0
    """
    image = ready_pair(backbone, image, importance)
    keep = normalize(jnp.asarray(importance, jnp.float32))[..., None]
    kept = keep * image + (1 - keep) * baseline_image(image, baseline, blur_sigma_px=blur_sigma_px)
    logits = forward_pass(backbone, jnp.stack([image, kept])).logits
    before, after = confidences(logits, logits[0].argmax() if target is None else target, output=output)
    drop = jnp.maximum(before - after, 0.0) / jnp.where(before > 0, before, 1.0)
    drop, increase = jnp.where(defined(importance), jnp.stack([drop, (after > before).astype(jnp.float32)]), jnp.nan)
    return drop, increase
