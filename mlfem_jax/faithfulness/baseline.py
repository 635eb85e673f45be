"""What stands in for the pixels of an image that are taken away."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

BaselineName: TypeAlias = Literal["blur", "mean", "black"]


def baseline_image(
    image: Float32[Array, "*S C"], name: BaselineName, *, blur_sigma_px: float
) -> Float32[Array, "*S C"]:
    """The image blurred, its mean color all over, or black; any other data likewise, zero being black."""
    if name == "black":
        return jnp.zeros_like(image)
    if name == "mean":
        return jnp.broadcast_to(image.mean(axis=tuple(range(image.ndim - 1)), keepdims=True), image.shape)
    if name != "blur":
        raise ValueError(f"baseline: expected 'blur', 'mean' or 'black', got {name!r}")
    for axis, length in enumerate(image.shape[:-1]):
        blur = jnp.asarray(_blur(length, blur_sigma_px))
        along = jnp.tensordot(blur, image, axes=(1, axis), precision=jax.lax.Precision.HIGHEST)
        image = jnp.moveaxis(along, 0, axis)
    return image


def _blur(length: int, sigma_px: float) -> Float32[np.ndarray, "n n"]:
    """A Gaussian around every position, cut at the edges and of sum 1."""
    if not sigma_px > 0:
        raise ValueError(f"blur_sigma_px: expected a number above 0, got {sigma_px}")
    offsets = np.arange(length)[:, None] - np.arange(length)[None]
    weights = np.exp(-0.5 * (offsets / sigma_px) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
