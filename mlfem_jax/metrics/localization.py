"""How much of a map lies where a thing is: a map and the mask of the thing in, one number out."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int, Num

from mlfem_jax.metrics.common import (
    Arrays,
    ContentBox,
    FixationMask,
    Fixations,
    Map,
    Score,
    content,
    limits,
    or_nan,
    same_shape,
)

Mask = Bool[Arrays, "..."]


def box_mask(boxes: Int[Arrays, "n sides"], shape: tuple[int, ...]) -> Bool[Array, "*S"]:
    """(H, W) True where one of the boxes is, (y0, x0, y1, x1) half open, such as those of COCO or of faces.

    Of other data a box is its first corner and its last: (t0, t1) of an event in a signal, (t0, y0, x0, t1, y1, x1).

    Example:
        >>> box_mask(np.array([[0, 1, 1, 3]]), (2, 3)).tolist()
        [[False, True, True], [False, False, False]]
        >>> box_mask(np.array([[1, 3]]), (4,)).tolist()
        [False, True, True, False]
    """
    return jax.vmap(lambda box: content(shape, box))(jnp.asarray(boxes)).any(axis=0)


def near_mask(
    fixations: Fixations, shape: tuple[int, ...], *, reach_px: Num[Arrays, " axes"], mask: FixationMask = None
) -> Bool[Array, "*S"]:
    """(H, W) True at every pixel that is at most so far from a fixation, or an event, along every axis.

    With a reach of two sigma it is where the density of events is: all of an interval or a box, where sigma is a
    quarter of its length.

    Args:
        fixations: (n, 2) as (y, x), in pixels; or with a coordinate for every other number of axes.
        shape: (height, width) of the map, in pixels.
        reach_px: along each axis, in pixels.
        mask: (n,) False for padding.

    Example:
        >>> near_mask(jnp.array([[1.5]]), (5,), reach_px=jnp.array([1.0])).tolist()
        [False, True, True, False, False]
    """
    points = jnp.asarray(fixations, jnp.float32)
    counted = jnp.ones(len(points), bool) if mask is None else jnp.asarray(mask)
    reach = jnp.asarray(reach_px, jnp.float32)
    near = counted.reshape(-1, *[1] * len(shape))
    for axis, length in enumerate(shape):
        own = jnp.abs(jnp.arange(length, dtype=jnp.float32)[None] - points[:, axis, None]) <= reach[axis]
        near = near & jnp.expand_dims(own, [1 + other for other in range(len(shape)) if other != axis])
    return near.any(axis=0)


def pointing_game(importance: Map, mask: Mask, *, content_box: ContentBox = None) -> Score:
    """Whether the map's highest pixel is on the thing: 1 or 0; of several highest ones, the share that is.

    Args:
        importance: (H, W) of any range.
        mask: (H, W) True on the thing.
        content_box: see `mlfem.metrics`.

    Returns:
        A number from 0 to 1; its mean over images is the accuracy. NaN for a constant map, one that is not finite, or
        an empty mask.

    Raises:
        ValueError: the two differ in shape.

    Source:
        Zhang et al. 2016, arXiv:1608.00507, without their tolerance of 15 pixels (enlarge the mask for it). Quantus
        counts a hit where any of several highest pixels is on the thing.

    Example:
        >>> print(pointing_game(jnp.array([[0.0, 3.0, 3.0]]), jnp.array([[True, True, False]])))
        0.5
    """
    importance, mask, defined = _checked(importance, mask, content_box)
    if content_box is not None:
        importance = jnp.where(content(importance.shape, content_box), importance, -jnp.inf)
    return or_nan(_share(importance == importance.max(), mask), defined)


def energy_inside(importance: Map, mask: Mask, *, content_box: ContentBox = None) -> Score:
    """The share of the map's sum that is on the thing: the energy-based pointing game, relevance mass accuracy.

    Args:
        importance: (H, W). One with negative values is shifted to minimum 0 first.
        mask: (H, W) True on the thing.
        content_box: see `mlfem.metrics`.

    Returns:
        A number from 0 to 1; a uniform map would have the thing's share of the image. NaN as `pointing_game`.

    Raises:
        ValueError: the two differ in shape.

    Source:
        Wang et al. 2020, Score-CAM, section 4.3; Arras, Osman and Samek 2022, doi:10.1016/j.inffus.2021.11.008
        (relevance mass accuracy). Quantus drops negative values instead.

    Example:
        >>> print(energy_inside(jnp.array([[0.0, 3.0, 1.0]]), jnp.array([[True, True, False]])))
        0.75
    """
    importance, mask, defined = _checked(importance, mask, content_box)
    if content_box is None:
        mass = importance - jnp.minimum(importance.min(), 0.0)
    else:
        inside = content(importance.shape, content_box)
        mass = jnp.where(inside, importance - jnp.minimum(importance.min(where=inside, initial=0.0), 0.0), 0.0)
    total = mass.sum()
    return or_nan(jnp.where(mask, mass, 0.0).sum() / jnp.where(total > 0, total, 1.0), defined)


def relevance_rank(importance: Map, mask: Mask) -> Score:
    """The share of the K highest pixels that is on the thing, with K its number of pixels.

    Args:
        importance: (H, W); only the order of its values matters.
        mask: (H, W) True on the thing.

    Returns:
        A number from 0 to 1; pixels that tie for the last places count by the share of them that get in. NaN as
        `pointing_game`.

    Raises:
        ValueError: the two differ in shape.

    Source:
        Arras, Osman and Samek 2022, doi:10.1016/j.inffus.2021.11.008 (relevance rank accuracy).

    Example:
        >>> print(relevance_rank(jnp.array([[0.0, 3.0, 1.0]]), jnp.array([[True, True, False]])))
        0.5
    """
    importance, mask, defined = _checked(importance, mask)
    return or_nan(_top(importance, mask, mask.sum()) / jnp.maximum(mask.sum(), 1).astype(jnp.float32), defined)


def top_k_intersection(importance: Map, mask: Mask, *, k: int = 1000) -> Score:
    """The share of the k highest pixels that is on the thing.

    Args:
        importance: (H, W); only the order of its values matters.
        mask: (H, W) True on the thing.
        k: number of pixels; the thing's own size is `relevance_rank`.

    Returns:
        A number from 0 to 1, ties as in `relevance_rank`. NaN as `pointing_game`.

    Raises:
        ValueError: the two differ in shape; k is not a number of pixels of the map.

    Source:
        Theiner, Mueller-Budack and Ewerth 2022, arXiv:2104.14995 (Top-K intersection).

    Example:
        >>> print(top_k_intersection(jnp.array([[0.0, 3.0, 1.0]]), jnp.array([[True, True, False]]), k=1))
        1.0
    """
    importance, mask, defined = _checked(importance, mask)
    if not 1 <= k <= importance.size:
        raise ValueError(f"k: expected 1 to {importance.size} pixels, got {k}")
    return or_nan(_top(importance, mask, jnp.asarray(k)) / k, defined)


def _checked(
    importance: Map, mask: Mask, content_box: ContentBox = None
) -> tuple[Float32[Array, "*S"], Bool[Array, "*S"], Bool[Array, ""]]:
    """The map, the part of the thing that exists, and whether there is a score."""
    same_shape(importance, np.empty(mask.shape), "mask")
    importance, mask = jnp.asarray(importance, jnp.float32), jnp.asarray(mask)
    inside = content(importance.shape, content_box)
    mask = mask if content_box is None else mask & inside
    return importance, mask, limits(importance, inside)[2] & mask.any()


def _share(pixels: Bool[Array, "*S"], mask: Bool[Array, "*S"]) -> Score:
    return (pixels & mask).sum().astype(jnp.float32) / jnp.maximum(pixels.sum(), 1).astype(jnp.float32)


def _top(importance: Float32[Array, "*S"], mask: Bool[Array, "*S"], k: Array) -> Score:
    """How many of the k highest pixels are on the thing; those that tie for the last places in parts."""
    last = jnp.sort(importance.ravel())[importance.size - jnp.clip(k, 1, importance.size)]
    above, level = importance > last, importance == last
    places = (k - above.sum()).astype(jnp.float32)
    return (above & mask).sum().astype(jnp.float32) + places * _share(level, mask)
