"""Maps that ignore the network: what a comparison must beat."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, to_maps
from mlfem_jax.backbones import Forward
from mlfem_jax.gaze import smooth_map


def center_maps(forward: Forward, *, sigma: float = 0.25) -> Float[Array, " N *S"]:
    """A Gaussian at the center of the image, for people look there first.

    Args:
        forward: the batch; only its size is used.
        sigma: standard deviation as a fraction of the height, along y, and of the width, along x; of any other axis.

    Raises:
        ValueError: a sigma that is not positive.
    """
    if sigma <= 0:
        raise ValueError(f"sigma: expected a positive fraction of the image's size, got {sigma}")
    bells = [np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) / sigma) ** 2) for n in forward.size]
    importance = jnp.asarray(functools.reduce(np.multiply.outer, bells), jnp.float32)
    return to_maps(jnp.broadcast_to(importance, forward.inputs.shape[:-1]), forward.size)


def uniform_maps(forward: Forward) -> Float[Array, " N *S"]:
    """One everywhere: all pixels matter alike. Not scaled, since min-max would make it blank."""
    return jnp.ones(forward.inputs.shape[:-1], jnp.float32)


def random_maps(forward: Forward, *, seed: int = 0) -> Float[Array, " N *S"]:
    """Uniform noise, independent at each pixel, drawn from `seed` and the image's content.

    So it differs between images, and is the same for an image in any batch. A forward in bfloat16 sees other content.
    """
    bits = jax.lax.bitcast_convert_type(forward.inputs.astype(jnp.float32), jnp.uint32)
    content = bits.sum(axis=tuple(range(1, bits.ndim)), dtype=jnp.uint32)
    key = jax.random.key(seed)
    size = forward.size
    draw = jax.vmap(lambda image: jax.random.uniform(jax.random.fold_in(key, image), size, jnp.float32))
    return to_maps(draw(content), size)


def edge_maps(forward: Forward) -> Float[Array, " N *S"]:
    """The magnitude of Sobel's gradient of the preprocessed image's mean over the colors; edges are repeated."""
    return to_maps(_edges(forward), forward.size)


def blurred_edge_maps(forward: Forward, *, sigma: float = 0.03) -> Float[Array, " N *S"]:
    """The edges blurred as a density of fixations is: what a smooth map of any structure earns against gaze.

    Args:
        forward: the batch; only its images are used.
        sigma: standard deviation as a fraction of the length of each axis. A degree of vision is
            0.03 of OSIE's photographs.

    Raises:
        ValueError: a sigma that is not positive.
    """
    if sigma <= 0:
        raise ValueError(f"sigma: expected a positive fraction of the image's size, got {sigma}")
    sigma_px = sigma * jnp.asarray(forward.size, jnp.float32)
    return to_maps(jax.vmap(lambda edges: smooth_map(edges, sigma_px=sigma_px))(_edges(forward)), forward.size)


def _edges(forward: Forward) -> Float[Array, " N *S"]:
    gray = forward.inputs.astype(jnp.float32).mean(axis=-1)
    padded = jnp.pad(gray, [(0, 0)] + [(1, 1)] * (gray.ndim - 1), mode="edge")
    first, *others = (_sobel(padded, axis) for axis in range(1, gray.ndim))
    return functools.reduce(jnp.hypot, others, first) if others else jnp.abs(first)


def _sobel(padded: Float[Array, " N *s"], axis: int) -> Float[Array, " N *S"]:
    """Difference along an axis, smoothed by 1, 2, 1 along the others; without the padding."""
    difference = _part(padded, axis, 2) - _part(padded, axis, 0)
    for other in range(1, padded.ndim):
        if other != axis:
            before, here, after = (_part(difference, other, start) for start in range(3))
            difference = before + 2 * here + after
    return difference


def _part(padded: Float[Array, " N *s"], axis: int, start: int) -> Float[Array, " N *t"]:
    """Without two positions of an axis: the last two, one at each end, or the first two."""
    return jax.lax.slice_in_dim(padded, start, start + padded.shape[axis] - 2, axis=axis)


METHODS = {
    "center": Entry(center_maps, "nothing", "reference: a Gaussian at the center"),
    "uniform": Entry(uniform_maps, "nothing", "reference: one everywhere"),
    "random": Entry(random_maps, "nothing", "reference: noise"),
    "edge": Entry(edge_maps, "nothing", "reference: the edges of the image"),
    "blurred_edge": Entry(blurred_edge_maps, "nothing", "reference: the edges, as smooth as a density of fixations"),
}
