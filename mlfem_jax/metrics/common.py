"""What all metrics share: the pixels that exist, when a map has a score, and which pixel a fixation is on."""

from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Num

Arrays: TypeAlias = Array | np.ndarray
Map: TypeAlias = Float[Arrays, "*S"]
Fixations: TypeAlias = Num[Arrays, "n axes"]
FixationMask: TypeAlias = Bool[Arrays, " n"] | None
ContentBox: TypeAlias = Int[Arrays, " sides"] | tuple[int, ...] | None
Score: TypeAlias = Float32[Array, ""]

MIT_EPSILON = 2.2204e-16  # what the MIT/Tuebingen benchmark adds inside its logarithms


def content(shape: tuple[int, ...], content_box: ContentBox) -> Bool[Array, "*S"]:
    """(H, W) True for the pixels that exist; of other maps likewise, in a box from corner to corner."""
    inside = jnp.ones(shape, bool)
    if content_box is None:
        return inside
    first, last = jnp.asarray(content_box).reshape(2, len(shape))
    for axis, length in enumerate(shape):
        places = jnp.arange(length)
        others = tuple(other for other in range(len(shape)) if other != axis)
        inside = inside & jnp.expand_dims((places >= first[axis]) & (places < last[axis]), others)
    return inside


def same_shape(importance: Num[Arrays, "..."], other: Num[Arrays, "..."], name: str) -> None:
    """Refuses a pair that would broadcast."""
    if np.ndim(importance) < 1 or np.shape(importance) != np.shape(other):
        raise ValueError(f"{name}: expected (H, W), as the map {np.shape(importance)}, got {np.shape(other)}")


def limits(importance: Float32[Array, "*S"], inside: Bool[Array, "*S"]) -> tuple[Score, Score, Bool[Array, ""]]:
    """Minimum and maximum over the content, and whether a metric of the map is defined."""
    low, high = importance.min(where=inside, initial=jnp.inf), importance.max(where=inside, initial=-jnp.inf)
    return low, high, jnp.isfinite(high - low) & (high > low)


def unit_range(importance: Map, inside: Bool[Array, "*S"]) -> tuple[Float32[Array, "*S"], Bool[Array, ""]]:
    """The map with its content scaled to [0, 1], zero outside and where undefined; and whether it is defined."""
    importance = jnp.asarray(importance, jnp.float32)
    low, high, defined = limits(importance, inside)
    scaled = (importance - low) / jnp.where(defined, high - low, 1.0)
    return jnp.where(inside & defined, scaled, 0.0), defined


def deviations(
    importance: Map, inside: Bool[Array, "*S"], ddof: int = 0
) -> tuple[Float32[Array, "*S"], Score, Bool[Array, ""]]:
    """How far each pixel is from the mean, zero outside; the variance, 1 where undefined; and whether it is defined.

    Both are those of the map scaled to [0, 1]: the squares of a density's values would underflow.
    """
    unit, defined = unit_range(importance, inside)
    count = inside.sum().astype(jnp.float32)
    centered = unit
    for _ in range(2):  # the first float32 mean can be off in the sixth digit, which a score near 0 would show
        centered = jnp.where(inside, centered - centered.sum() / jnp.maximum(count, 1.0), 0.0)
    variance = jnp.square(centered).sum() / jnp.maximum(count - ddof, 1.0)
    return centered, jnp.where(defined, variance, 1.0), defined


def density(importance: Map, inside: Bool[Array, "*S"]) -> tuple[Float32[Array, "*S"], Bool[Array, ""]]:
    """The map with its content summing to 1, shifted to minimum 0 if any is negative; and whether it is defined."""
    importance = jnp.asarray(importance, jnp.float32)
    low, _, defined = limits(importance, inside)
    mass = jnp.where(inside & defined, importance - jnp.minimum(low, 0.0), 0.0)
    return mass / jnp.where(defined, mass.sum(), 1.0), defined


def or_nan(value: Score, *defined: Bool[Array, ""]) -> Score:
    """The value, NaN unless all of `defined` hold."""
    return jnp.where(jnp.all(jnp.stack(defined)), value, jnp.nan)


def fixated(
    fixations: Fixations, mask: FixationMask, inside: Bool[Array, "*S"]
) -> tuple[tuple[Int32[Array, " n"], ...], Bool[Array, " n"]]:
    """Row and column of each fixation's pixel, or its place along every other number of axes, and whether it counts."""
    if inside.ndim != fixations.shape[1]:
        raise ValueError(
            f"fixations: expected {inside.ndim} coordinates, as a map {inside.shape}, got {fixations.shape}"
        )
    pixels = jnp.floor(jnp.asarray(fixations, jnp.float32) + 0.5)
    size = jnp.array(inside.shape, jnp.float32)[None]
    counted = ((pixels >= 0) & (pixels < size)).all(axis=-1)  # False for NaN
    places = tuple(jnp.where(counted[:, None], pixels, 0.0).astype(jnp.int32).T)
    counted = counted & inside[places]
    return places, counted if mask is None else counted & jnp.asarray(mask)


def mean_where(values: Float32[Array, " n"], counted: Bool[Array, " n"]) -> Score:
    """The mean of the values that count; NaN if none does."""
    count = counted.sum()
    mean = jnp.where(counted, values, 0.0).sum() / jnp.maximum(count, 1).astype(jnp.float32)
    return or_nan(mean, count > 0)
