"""Rotary position embeddings in two dimensions: queries and keys are turned by angles that tell where a patch lies.

Source: Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding (2021), equation 34; Siméoni et al.,
DINOv3 (2025), for coordinates between -1 and 1. What they do to coordinates in training (shift, jitter, rescale) is
left out.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Heads = Float[Array, "N T h c"]


def rotation(grid: tuple[int, int], *, prefix: int, width: int, base: float | None) -> Callable[[Heads], Heads]:
    """What turns the queries or the keys of all heads, each token's by the place of its patch.

    A head's channels are pairs (i, i + width / 2), and a pair is turned by 2 pi times the patch's y (the first half of
    the pairs) or x (the second), over the period of the pair. y and x are those of the patch's center, -1 at the upper
    or left edge of the image and 1 at the other, whatever its size.

    Args:
        grid: patches along y and x.
        prefix: how many tokens stand before those of the patches; they are not turned.
        width: channels of a head, a multiple of 4.
        base: the periods are base^0 to base^(1 - 4 / width), in geometric progression; None turns nothing.

    Returns:
        A linear function of (N, prefix + patches, heads, width), which computes in float32 and keeps the dtype.
    """
    if base is None:
        return same
    places = [(2 * np.arange(count) + 1) / count - 1 for count in grid]
    turns = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, 2, 1) / periods(width, base)
    angles = np.concatenate([np.zeros((prefix, width // 2)), 2 * np.pi * turns.reshape(len(turns), -1)])
    cos, sin = (part(angles).astype(np.float32)[None, :, None] for part in (np.cos, np.sin))

    def turn(heads: Heads) -> Heads:
        first, second = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
        return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(heads.dtype)

    return turn


def same(heads: Array) -> Array:
    """As it is."""
    return heads


def periods(width: int, base: float) -> Float[np.ndarray, " p"]:
    """The periods of a head of `width` channels, in units of half the image; (width / 4,) float64."""
    return base ** (np.arange(width // 4) / (width // 4))
