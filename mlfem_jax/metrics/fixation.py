"""Metrics of a map against the fixations themselves, by its values (the AUCs, by its order, are in `roc.py`)."""

import jax.numpy as jnp

from mlfem_jax.metrics.common import (
    MIT_EPSILON,
    ContentBox,
    FixationMask,
    Fixations,
    Map,
    Score,
    content,
    density,
    deviations,
    fixated,
    mean_where,
    or_nan,
    same_shape,
)


def nss(
    importance: Map, fixations: Fixations, *, mask: FixationMask = None, ddof: int = 0, content_box: ContentBox = None
) -> Score:
    """The normalized scanpath saliency: how many standard deviations above its mean the map is where people looked.

    Args:
        importance: (H, W) of any range.
        fixations: (n, 2) as (y, x), in pixels.
        mask: (n,) False for padding.
        ddof: what is taken off the number of pixels in the variance: 0, the population's, as pysaliency; 1 as the MIT
            benchmark.
        content_box: see `mlfem.metrics`.

    Returns:
        The mean over fixations, 0 for chance; NaN if the map is constant or has a NaN, or if no fixation counts.

    Source:
        Peters, Iyer, Itti and Koch 2005, doi:10.1016/j.visres.2005.03.019. The MIT benchmark counts a pixel that was
        fixated repeatedly once; pysaliency and this count every fixation. pysaliency cuts coordinates to integers; here
        they are rounded. pysaliency gives 0 for a constant map.

    Example:
        >>> print(nss(jnp.array([[0.0, 1.0], [2.0, 3.0]]), jnp.array([[1, 1]])).round(3))  # 1.5 / sqrt(1.25)
        1.342
    """
    inside = content(importance.shape, content_box)
    places, counted = fixated(fixations, mask, inside)
    centered, variance, defined = deviations(importance, inside, ddof)
    return or_nan(mean_where(centered[places], counted) / jnp.sqrt(variance), defined)


def information_gain(
    importance: Map,
    fixations: Fixations,
    *,
    baseline: Map | None = None,
    mask: FixationMask = None,
    content_box: ContentBox = None,
) -> Score:
    """How many bits a fixation the map, as a density, predicts people better than a baseline does.

    The mean over fixations of log2(epsilon + P) - log2(epsilon + B), P the map and B the baseline, each divided by its
    sum, epsilon = 2.2e-16: a fixation on a zero of the map costs some 35 bits.

    Args:
        importance: (H, W). One with negative values is shifted to minimum 0 first.
        fixations: (n, 2) as (y, x), in pixels.
        baseline: (H, W), likewise, such as the mean density of the other images. Default: uniform over the content.
        mask: (n,) False for padding.
        content_box: see `mlfem.metrics`.

    Returns:
        Bits; NaN if the map is constant, if either has a NaN, if the baseline is all zeros, or if no fixation counts.

    Raises:
        ValueError: the map and the baseline differ in shape.

    Source:
        Kümmerer, Wallis and Bethge 2015, doi:10.1073/pnas.1510393112; pysaliency's information gain, without its fit of
        a density to the map. The epsilon is that of the MIT benchmark, which also scales the map to [0, 1] first.

    Example:
        >>> print(information_gain(jnp.array([[1.0, 3.0, 0.0, 0.0]]), jnp.array([[0, 1]])).round(3))  # 0.75 / 0.25
        1.585
    """
    inside = content(importance.shape, content_box)
    places, counted = fixated(fixations, mask, inside)
    predicted, defined = density(importance, inside)
    expected = inside.astype(jnp.float32) if baseline is None else jnp.asarray(baseline, jnp.float32)
    same_shape(importance, expected, "baseline")
    # Not `density`: a constant baseline is a good one.
    lowest = expected.min(where=inside, initial=0.0)
    expected = jnp.where(inside, expected - lowest, 0.0)
    total = expected.sum()
    usable = jnp.isfinite(total) & (total > 0)
    expected = expected / jnp.where(usable, total, 1.0)
    gain = jnp.log2(MIT_EPSILON + predicted[places]) - jnp.log2(MIT_EPSILON + expected[places])
    return or_nan(mean_where(gain, counted), defined, usable)
