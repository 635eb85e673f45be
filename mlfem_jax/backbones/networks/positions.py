"""Position embeddings for another number of patches than a network was trained with."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def resized_positions(
    positions: Float[Array, "g f C"], grid: tuple[int, int], *, antialias: bool = False
) -> Float[Array, "h w C"]:
    """Position embeddings for another number of patches, by bicubic interpolation as PyTorch does it.

    Args:
        positions: those that the network was trained with.
        grid: patches along y and x.
        antialias: a kernel as wide as the steps between the new positions; and a = -0.5 in it, for PyTorch's is not
            the same there as without (a = -0.75).
    """
    if positions.shape[:2] == grid:
        return positions
    rows, columns = (
        jnp.asarray(_bicubic(length, size, antialias), positions.dtype)
        for length, size in zip(positions.shape[:2], grid, strict=True)
    )
    return jnp.einsum("yg,gfc,xf->yxc", rows, positions, columns)


def _bicubic(length: int, size: int, antialias: bool) -> np.ndarray:
    """(size, length) matrix of Keys' cubic convolution between half-pixel centers, edges repeated."""
    a, step = (-0.5, max(length / size, 1.0)) if antialias else (-0.75, 1.0)
    center = (np.arange(size)[:, None] + 0.5) * length / size - 0.5
    # With antialiasing only samples that exist take part; without, those beyond an edge are the edge's.
    reach = 0 if antialias else 3
    sample = np.arange(-reach, length + reach)
    distance = np.abs(sample[None] - center) / step
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    weight = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    matrix = np.zeros((size, length))
    for taken, share in zip(np.clip(sample, 0, length - 1), weight.T, strict=True):
        matrix[:, taken] += share
    return matrix / matrix.sum(axis=1, keepdims=True)
