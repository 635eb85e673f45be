"""Shuffled AUC by samples and coarse thresholds, as the MIT benchmark computes it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from mlfem_jax.metrics.common import (
    Arrays,
    ContentBox,
    FixationMask,
    Fixations,
    Map,
    Score,
    content,
    fixated,
    or_nan,
    unit_range,
)


def auc_shuffled_sampled(
    importance: Map,
    fixations: Fixations,
    counts: Num[Arrays, "..."],
    *,
    key: Array,
    splits: int = 100,
    step: float = 0.1,
    mask: FixationMask = None,
    content_box: ContentBox = None,
) -> Score:
    """The MIT benchmark's sAUC: the mean over random samples of other images' fixations, with few thresholds.

    A pixel counts once, however often it is fixated, here and among the negatives. The thresholds are multiples of
    `step` of the map scaled to [0, 1], so maps whose values are bunched score nearer to 0.5 than by
    `auc_against_counts`, which is exact.

    Args:
        importance: (H, W) of any range.
        fixations: (n, 2) as (y, x), in pixels.
        counts: (H, W) how many fixations each pixel has on other images.
        key: of the samples.
        splits: number of samples.
        step: between thresholds.
        mask: (n,) False for padding.
        content_box: see `mlfem.metrics`.

    Returns:
        A number from 0 to 1, 0.5 for chance; NaN if the map is constant or has a NaN, or if no fixation or no count is
        inside.

    Raises:
        ValueError: no splits, or a step that is not between 0 and 1.

    Source:
        Borji, Tavakoli, Sihite and Itti 2013, doi:10.1109/ICCV.2013.118, as in the MIT saliency benchmark, which draws
        other images first and then pixels without replacement; here pixels are drawn with replacement from all others.

    Example:
        >>> map, others = jnp.array([[0.0, 0.5, 1.0]]), jnp.array([[1, 0, 0]])
        >>> print(auc_shuffled_sampled(map, jnp.array([[0, 2]]), others, key=jax.random.key(0)))
        1.0
    """
    if splits < 1 or not 0 < step <= 1:
        raise ValueError(f"splits and step: expected at least 1 and from 0 to 1, got {splits} and {step}")
    inside = content(importance.shape, content_box)
    places, counted = fixated(fixations, mask, inside)
    unit, defined = unit_range(importance, inside)
    own = jnp.zeros(importance.shape, jnp.float32).at[places].add(counted.astype(jnp.float32))
    once = jnp.where(counted, 1 / jnp.maximum(own[places], 1.0), 0.0)
    thresholds = jnp.arange(round(1 / step), -1, -1, dtype=jnp.float32) * step
    reached = unit[places][None] >= thresholds[:, None]
    hits = jnp.where(reached, once[None], 0.0).sum(axis=1) / jnp.maximum(once.sum(), 1.0)
    there = (inside & (jnp.asarray(counts) > 0)).ravel()
    below = jnp.cumsum(there.astype(jnp.int32))
    drawn = jnp.arange(len(once)) < jnp.round(once.sum()).astype(jnp.int32)

    def area(key: Array) -> Score:
        numbers = jax.random.randint(key, once.shape, 0, jnp.maximum(below[-1], 1))
        values = unit.ravel()[jnp.searchsorted(below, numbers, side="right")]
        alarms = ((values[None] >= thresholds[:, None]) & drawn[None]).sum(axis=1) / jnp.maximum(drawn.sum(), 1)
        return jnp.trapezoid(_with_ends(hits), _with_ends(alarms.astype(jnp.float32)))

    areas = jax.lax.map(area, jax.random.split(key, splits))
    return or_nan(areas.mean(), defined, counted.any(), below[-1] > 0)


def _with_ends(share: Array) -> Array:
    return jnp.pad(share, 1).at[-1].set(1.0)
