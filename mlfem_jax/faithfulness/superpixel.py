"""Superpixels taken away in the order of the map, and what that does to the network's confidence."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int

from mlfem_jax.backbones import Backbone
from mlfem_jax.faithfulness.baseline import BaselineName, baseline_image
from mlfem_jax.faithfulness.common import (
    Arrays,
    Image,
    Map,
    Output,
    Target,
    confidences_beside,
    defined,
    or_predicted,
    ready_pair,
)

_STATIC = ("most", "baseline", "blur_sigma_px", "output", "batch_size")


@functools.partial(jax.jit, static_argnames=_STATIC)
def irof_curve(
    backbone: Backbone,
    image: Image,
    importance: Map,
    labels: Int[Arrays, "*S"],
    *,
    most: int,
    target: Target = None,
    baseline: BaselineName = "mean",
    blur_sigma_px: float = 10.0,
    output: Output = "softmax",
    batch_size: int = 64,
) -> Float32[Array, " _points"]:
    """The network's confidence, as a share of that for the image, while superpixels go, the most important first.

    Args:
        backbone: the network.
        image: (H, W, 3) at the size of its input, uint8 or float in [0, 1].
        importance: (H, W); a superpixel is as important as the mean of its pixels. Of equal ones the first goes first.
        labels: (H, W) number of each pixel's superpixel, from 0.
        most: above every label; one forward pass for each number below it, and one more.
        target: see `insertion_curve`.
        baseline: what a superpixel turns into, see `insertion_curve`.
        blur_sigma_px: see `insertion_curve`.
        output: see `insertion_curve`.
        batch_size: see `insertion_curve`.

    Returns:
        (most + 1,) float32, from 1; NaN behind the last superpixel, and all NaN for a map that is constant or not
        finite.

    Raises:
        ValueError: shapes that differ, or `most` is not positive.
    """
    image = ready_pair(backbone, image, importance)
    if most < 1 or labels.shape != importance.shape:
        raise ValueError(f"labels and most: expected {importance.shape} and at least 1, got {labels.shape} and {most}")
    target = or_predicted(target, backbone, image)
    gone = baseline_image(image, baseline, blur_sigma_px=blur_sigma_px)
    labels, importance = jnp.asarray(labels, jnp.int32), jnp.asarray(importance, jnp.float32)
    pixels = jnp.zeros(most, jnp.float32).at[labels.ravel()].add(1.0)
    mass = jnp.zeros(most, jnp.float32).at[labels.ravel()].add(importance.ravel())
    means = jnp.where(pixels > 0, mass / jnp.maximum(pixels, 1.0), -jnp.inf)  # those that do not exist go last
    rank = jnp.zeros(most, jnp.int32).at[jnp.argsort(-means)].set(jnp.arange(most, dtype=jnp.int32))

    counts = jnp.arange(most + 1, dtype=jnp.int32)
    options = {"target": target, "output": output, "batch_size": batch_size}
    scores = confidences_beside(backbone, gone, image, rank[labels], counts, **options)
    there = (counts <= (pixels > 0).sum()) & defined(importance)
    return jnp.where(there, scores / scores[0], jnp.nan)


def irof(
    backbone: Backbone, image: Image, importance: Map, labels: Int[Arrays, "*S"], *, most: int, **options
) -> Float32[Array, ""]:
    """The area over `irof_curve`: higher is better.

    Args:
        backbone: see `irof_curve`.
        image: see `irof_curve`.
        importance: see `irof_curve`.
        labels: see `irof_curve`.
        most: see `irof_curve`.
        **options: those of `irof_curve`.

    Returns:
        1 minus the mean height of the curve, by trapezoids, at most 1; NaN for a map that is constant or not finite.

    Raises:
        ValueError: as `irof_curve`.

    Source:
        Rieger and Hansen 2020, "IROF", arXiv:2003.08747, section 3.2, divided by the number of superpixels, so that
        images compare.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(1, 2),
        ...                          preprocess=lambda x: x)
        >>> image, map = jnp.array([[[0.25, 0, 0], [0.75, 0, 0]]]), jnp.array([[0.0, 1.0]])
        >>> print(irof(backbone, image, map, jnp.array([[0, 1]]), most=4, baseline="black", output="logit"))
        0.625
    """
    curve = irof_curve(backbone, image, importance, labels, most=most, **options)
    steps = (curve[1:] + curve[:-1]) / 2
    return 1 - jnp.nanmean(steps)
