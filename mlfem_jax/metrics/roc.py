"""The area under the ROC curve of a map as a detector of fixations: only the order of its values counts."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, Num

from mlfem_jax.metrics.common import (
    Arrays,
    ContentBox,
    FixationMask,
    Fixations,
    Map,
    Score,
    content,
    fixated,
    limits,
    mean_where,
    or_nan,
    same_shape,
)


def auc(importance: Map, fixations: Fixations, *, mask: FixationMask = None, content_box: ContentBox = None) -> Score:
    """The area under the ROC curve of the map as a detector of fixations among all pixels.

    It is the chance that the map is higher at a fixation than at a pixel drawn from the whole image, a tie counting one
    half; that is computed by ranks, exactly, without jitter: maps of FEM are full of exact zeros.

    Args:
        importance: (H, W); only the order of its values matters.
        fixations: (n, 2) as (y, x), in pixels.
        mask: (n,) False for padding.
        content_box: see `mlfem.metrics`.

    Returns:
        A number from 0 to 1, 0.5 for chance; NaN if the map is constant or has a NaN, or if no fixation counts.

    Source:
        pysaliency's AUC with nonfixations="uniform"; it is 0.5 there for a constant map.

    Example:
        >>> print(auc(jnp.array([[0.0, 0.0], [0.0, 1.0]]), jnp.array([[1, 1], [0, 0]])))  # (3.5 / 4 + 1.5 / 4) / 2
        0.625
    """
    return auc_against_counts(importance, fixations, jnp.ones(importance.shape), mask=mask, content_box=content_box)


def auc_judd(
    importance: Map, fixations: Fixations, *, mask: FixationMask = None, content_box: ContentBox = None
) -> Score:
    """AUC-Judd: as `auc`, with the pixels that nobody fixated as negatives and thresholds at the fixated values alone.

    The ROC curve joins (0, 0), the points of the thresholds, and (1, 1) by straight lines. With n fixations the area is
    up to 1 / (2 n) above the exact one.

    Args:
        importance: (H, W); only the order of its values matters.
        fixations: (n, 2) as (y, x), in pixels.
        mask: (n,) False for padding.
        content_box: see `mlfem.metrics`.

    Returns:
        A number from 0 to 1; NaN if the map is constant or has a NaN, if no fixation counts, or if every pixel was
        fixated.

    Source:
        Judd, Ehinger, Durand and Torralba 2009, doi:10.1109/ICCV.2009.5459462; pysaliency's AUC_Judd with jitter=False.
        The jitter of 1e-7 that breaks ties in both is left out: it makes the score random. The MIT benchmark counts a
        pixel that was fixated repeatedly once; pysaliency and this count every fixation.

    Example:
        >>> print(auc_judd(jnp.array([[0.0, 1.0, 3.0, 4.0, 2.0]]), jnp.array([[0, 2]])))  # by (1/4, 1)
        0.875
    """
    importance = jnp.asarray(importance, jnp.float32)
    inside = content(importance.shape, content_box)
    places, counted = fixated(fixations, mask, inside)
    _, _, defined = limits(importance, inside)
    negative = inside & ~jnp.zeros(importance.shape, bool).at[places].max(counted)
    thresholds = -jnp.sort(-jnp.where(counted, importance[places], -jnp.inf))
    negatives = jnp.sort(jnp.where(negative, importance, -jnp.inf).ravel())
    hits = _share_at_least(thresholds, thresholds[::-1], counted.sum())
    false_alarms = _share_at_least(thresholds, negatives, negative.sum())
    area = jnp.trapezoid(_from_0_to_1(hits), _from_0_to_1(false_alarms))
    return or_nan(area, defined, counted.any(), negative.any())


def auc_shuffled(
    importance: Map,
    fixations: Fixations,
    other_fixations: Num[Arrays, "m axes"],
    *,
    mask: FixationMask = None,
    other_mask: Bool[Arrays, " m"] | None = None,
    content_box: ContentBox = None,
) -> Score:
    """Shuffled AUC: as `auc`, with fixations made on other images as negatives, so that a center prior earns nothing.

    Args:
        importance: (H, W); only the order of its values matters.
        fixations: (n, 2) as (y, x), in pixels.
        other_fixations: (m, 2) as (y, x), in pixels of this image's frame (`mlfem.gaze.move_fixations`). For a data
            set pass all its fixations, and leave this image's own out by `other_mask`.
        mask: (n,) False for padding.
        other_mask: (m,) False for padding.
        content_box: see `mlfem.metrics`.

    Returns:
        A number from 0 to 1, 0.5 for chance; NaN if the map is constant or has a NaN, or if no fixation or no other one
        counts.

    Source:
        Tatler, Baddeley and Gilchrist 2005, doi:10.1016/j.visres.2004.09.017; pysaliency's sAUC: all other fixations,
        exactly, duplicates counting, where the MIT benchmark draws 100 samples and sweeps thresholds in steps of 0.1.

    Example:
        >>> print(auc_shuffled(jnp.array([[0.0, 1.0], [2.0, 3.0]]), jnp.array([[1, 0]]), jnp.array([[0, 0], [1, 1]])))
        0.5
    """
    counts = fixation_counts(other_fixations, importance.shape, mask=other_mask, content_box=content_box)
    return auc_against_counts(importance, fixations, counts, mask=mask, content_box=content_box)


def auc_against_counts(
    importance: Map,
    fixations: Fixations,
    counts: Num[Arrays, "..."],
    *,
    mask: FixationMask = None,
    content_box: ContentBox = None,
) -> Score:
    """As `auc`, with each pixel a negative as often as `counts` says: what `auc` and `auc_shuffled` compute.

    For a data set this is the cheap way to `auc_shuffled`: count all its fixations once by `fixation_counts`, and take
    this image's own off.

    Args:
        importance: (H, W); only the order of its values matters.
        fixations: (n, 2) as (y, x), in pixels.
        counts: (H, W) not negative.
        mask: (n,) False for padding.
        content_box: see `mlfem.metrics`.

    Returns:
        A number from 0 to 1, 0.5 for chance; NaN if the map is constant or has a NaN, or if no fixation or no count
        is inside.

    Raises:
        ValueError: the map and the counts differ in shape.

    Source:
        As `auc_shuffled`.

    Example:
        >>> print(auc_against_counts(jnp.array([[0.0, 1.0]]), jnp.array([[0, 1]]), jnp.array([[3, 1]])))  # 3.5 / 4
        0.875
    """
    same_shape(importance, counts, "counts")
    importance = jnp.asarray(importance, jnp.float32)
    inside = content(importance.shape, content_box)
    places, counted = fixated(fixations, mask, inside)
    _, _, defined = limits(importance, inside)
    order = jnp.argsort(importance, axis=None)
    weights = jnp.where(inside, jnp.asarray(counts, jnp.float32), 0.0).ravel()[order]
    # Counts stay exact in float32 up to 16 million.
    below = jnp.concatenate([jnp.zeros(1), jnp.cumsum(weights)])
    low, high = (
        jnp.searchsorted(importance.ravel()[order], importance[places], side=side) for side in ("left", "right")
    )
    share = (below[low] + below[high]) / (2 * jnp.maximum(below[-1], 1.0))
    return or_nan(mean_where(share, counted), defined, below[-1] > 0)


def fixation_counts(
    fixations: Fixations,
    shape: tuple[int, ...],
    *,
    mask: FixationMask = None,
    content_box: ContentBox = None,
) -> Int32[Array, "*S"]:
    """How many fixations each pixel has.

    Args:
        fixations: (n, 2) as (y, x), in pixels.
        shape: (height, width) of the frame.
        mask: (n,) False for padding.
        content_box: see `mlfem.metrics`.

    Returns:
        (H, W); a fixation outside the frame or the box is not counted.

    Example:
        >>> fixation_counts(jnp.array([[0.0, 0.6], [0.0, 1.4], [9.0, 0.0]]), (1, 3)).tolist()
        [[0, 2, 0]]
    """
    places, counted = fixated(fixations, mask, content(shape, content_box))
    return jnp.zeros(shape, jnp.int32).at[places].add(counted.astype(jnp.int32))


def _share_at_least(
    thresholds: Float32[Array, " n"], ascending: Float32[Array, " m"], count: Num[Array, ""]
) -> Float32[Array, " n"]:
    """Which share of `count` values is at least each threshold; values that do not count are -infinity."""
    at_least = len(ascending) - jnp.searchsorted(ascending, thresholds, side="left")
    return at_least.astype(jnp.float32) / jnp.maximum(count, 1).astype(jnp.float32)


def _from_0_to_1(share: Float32[Array, " n"]) -> Float32[Array, " n+2"]:
    """The curve with its ends; what only pads it is at the threshold -infinity, the second end."""
    return jnp.pad(jnp.minimum(share, 1.0), 1).at[-1].set(1.0)
