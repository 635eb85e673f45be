"""A map blurred as gaze is: the control that tells a method from the smoothness of its maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from mlfem_jax.gaze.density import Arrays, Sigma, check_sigma


def smooth_map(
    importance: Float[Arrays, "*S"],
    *,
    sigma_px: Sigma,
    content_box: Int[Arrays, " sides"] | tuple[int, ...] | None = None,
) -> Float32[Array, "*S"]:
    """The map blurred by a Gaussian, so that it can be compared with a GFDM of that sigma at equal smoothness.

    Each pixel becomes the mean of the pixels around it, by a Gaussian that ends where the content does: what is outside
    neither comes in nor pulls the edges down, and a map of one value stays as it is. (A GFDM loses the mass that falls
    outside its frame; a map blurred so would gain a center bias from it.)

    Args:
        importance: (H, W) of any range, or of any other number of axes.
        sigma_px: standard deviation, in pixels: one number, or the two along (y, x) as `scale_sigma` gives them; one
            for each axis.
        content_box: (y0, x0, y1, x1) half open: the pixels that exist; may be traced. Default: all.

    Returns:
        (H, W) float32, not normalized, zero outside the box; a constant map unchanged, so that no rounding error is
        scored; NaN where a map that is not finite reaches.

    Raises:
        ValueError: a Python number `sigma_px` that `check_sigma` refuses.

    Source:
        A convolution normalized by that of the frame: Knutsson and Westin 1993, doi:10.1109/CVPR.1993.341081.

    Example:
        >>> import numpy as np
        >>> print(np.asarray(smooth_map(jnp.array([[0.0, 1.0, 0.0]]), sigma_px=1.0)).round(3))
        [[0.348 0.452 0.348]]
    """
    if isinstance(sigma_px, int | float):
        check_sigma(sigma_px)
    importance = jnp.asarray(importance, jnp.float32)
    axes = importance.ndim
    sigmas = jnp.broadcast_to(jnp.asarray(sigma_px, jnp.float32), (axes,))
    box = jnp.array([0] * axes + list(importance.shape)) if content_box is None else jnp.asarray(content_box)
    blurs = [_blur(length, box[i], box[axes + i], sigmas[i]) for i, length in enumerate(importance.shape)]
    inside = jnp.ones((1,) * axes, bool)
    for axis, blur in enumerate(blurs):
        others = tuple(other for other in range(axes) if other != axis)
        inside = inside & jnp.expand_dims(blur.sum(axis=1) > 0, others)
    blurred = there = jnp.where(inside, importance, 0.0)
    for axis, blur in enumerate(blurs):
        # The default precision of accelerators is wrong in the third digit.
        along = jnp.tensordot(blur, blurred, axes=(1, axis), precision=jax.lax.Precision.HIGHEST)
        blurred = jnp.moveaxis(along, 0, axis)
    low = importance.min(where=inside, initial=jnp.inf)
    varied = ~(importance.max(where=inside, initial=-jnp.inf) <= low)  # true for NaN
    return jnp.where(varied, blurred, there)


def _blur(length: int, start: Array, end: Array, sigma_px: Array) -> Float32[Array, "n n"]:
    """A Gaussian around every position between start and end, cut there and of sum 1; zeros for the others."""
    places = jnp.arange(length)
    inside = (places >= start) & (places < end)
    offsets = (places[:, None] - places[None]).astype(jnp.float32)
    weights = jnp.where(inside[:, None] & inside[None], jnp.exp(-0.5 * jnp.square(offsets / sigma_px)), 0.0)
    return weights / jnp.where(inside, weights.sum(axis=1), 1.0)[:, None]
