"""Small maps that a table keeps for the report: of photographs, signals and planes as they lie, of films as a strip."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped, UInt8

FRAMES = 8
"""Frames of a film, or slices of a volume, that a strip shows."""
_SIDES = 8
"""Side lengths of a small map that a signal is long at most."""


def over_all_axes(values: Shaped[Array, "N ..."], size: tuple[int, ...]) -> Shaped[Array, "N ..."]:
    """What is known along the first axes of examples, the same all along the others."""
    missing = len(size) - (values.ndim - 1)
    return jnp.broadcast_to(values.reshape(*values.shape, *[1] * missing), (len(values), *size)) if missing else values


def small_shape(spatial: tuple[int, ...], size: int) -> tuple[int, int]:
    """(height, width) in pixels of the small maps of examples of a shape.

    Args:
        spatial: lengths of their spatial axes.
        size: side in pixels of a small map of a photograph.

    Example:
        >>> small_shape((1024,), 56), small_shape((224, 224), 56), small_shape((100, 27, 48), 56)
        ((1, 448), (56, 56), (56, 448))
    """
    if len(spatial) == 1:
        return 1, min(_SIDES * size, spatial[0])
    return size, size if len(spatial) == 2 else size * min(FRAMES, spatial[0])


def small_maps(
    maps: Float[Array, "N ..."], events: Float[Array, "N n axes"], *, spatial: tuple[int, ...], size: int
) -> UInt8[Array, "N ..."]:
    """Maps as uint8, 255 for the maximum of each: of photographs `size` pixels a side, see `small_shape`.

    Args:
        maps: (N, *S), or (N, rows, *S).
        events: where a film has events: the frame of the first is one of those in the strip.
        spatial: S.
        size: of the small maps; with 0 they are 0 x 0.
    """
    before = maps.shape[: maps.ndim - len(spatial)]
    if size == 0:
        return jnp.zeros((*before, 0, 0), jnp.uint8)
    maps = maps.astype(jnp.float32)
    if len(spatial) == 3:
        maps = jax.vmap(lambda own, at: jnp.take(own, shown_frames(spatial[0], at), axis=-3))(maps, events[:, 0, 0])
        small = jax.image.resize(maps, (*before, maps.shape[-3], size, size), "linear")
        small = jnp.moveaxis(small, -3, -2).reshape(*before, *small_shape(spatial, size))
    elif len(spatial) == 1:
        small = jax.image.resize(maps, (*before, small_shape(spatial, size)[1]), "linear")[..., None, :]
    else:
        small = jax.image.resize(maps, (*before, size, size), "linear")
    peak = small.max(axis=(-2, -1), keepdims=True, initial=0)
    return jnp.nan_to_num(small / jnp.where(peak > 0, peak, 1) * 255).round().clip(0, 255).astype(jnp.uint8)


def shown_frames(length: int, event: Any) -> Any:
    """Numbers of the frames of a strip: spread over the film, the one nearest to an event moved onto it.

    Args:
        length: of the film, in frames.
        event: its frame, NumPy or JAX.

    Returns:
        (frames,) ascending.

    Example:
        >>> shown_frames(100, np.float32(40.4)).tolist()
        [0, 14, 28, 40, 57, 71, 85, 99]
    """
    xp = jnp if isinstance(event, jax.Array) else np
    spread = np.linspace(0, length - 1, min(FRAMES, length)).round().astype(np.int32)
    at = xp.clip(xp.round(event), 0, length - 1).astype(np.int32)
    nearest = xp.argmin(xp.abs(xp.asarray(spread) - at))
    return xp.where(xp.arange(len(spread)) == nearest, at, xp.asarray(spread))
