"""What a table of scores says of each method: means, intervals, means of groups. NumPy in, NumPy out.

Scores are (images, methods), paired by image. NaN is undefined; every function says what it does with it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int, Shaped


class Summary(NamedTuple):
    """The defined values of a sample.

    Attributes:
        count: of defined values.
        mean: NaN for none.
        median: NaN for none.
        low: lower end of the bootstrap interval of the mean; NaN for fewer than two.
        high: its upper end.
    """

    count: int
    mean: float
    median: float
    low: float
    high: float


class Group(NamedTuple):
    """The images of one group.

    Attributes:
        name: of the group.
        summary: of their scores.
    """

    name: str
    summary: Summary


def bootstrap_interval(
    values: Float[np.ndarray, " images"], *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float]:
    """An interval for the mean over images: percentiles of the means of resampled images.

    Args:
        values: NaN is left out.
        confidence: share of the resampled means inside.
        resamples: number of them.
        seed: of the resampling; the result is the same each time.

    Returns:
        (low, high); NaN for fewer than two defined values.

    Raises:
        ValueError: a confidence not between 0 and 1.

    Source:
        Efron 1979, doi:10.1214/aos/1176344552; the percentile method.

    Example:
        >>> bootstrap_interval(np.array([2.0, 2.0, 2.0, np.nan]))
        (2.0, 2.0)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
    defined = values[~np.isnan(values)]
    if len(defined) < 2:
        return np.nan, np.nan
    if np.ptp(defined) == 0:
        return float(defined[0]), float(defined[0])
    interval = scipy.stats.bootstrap(
        (defined,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 4_000_000 // len(defined)),  # 32 MB at a time
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def summarize(values: Float[np.ndarray, " images"], *, resamples: int = 9999) -> Summary:
    """Count, mean, median and 95 % bootstrap interval of the defined values.

    Example:
        >>> summarize(np.array([1.0, 1.0, np.nan]))
        Summary(count=2, mean=1.0, median=1.0, low=1.0, high=1.0)
    """
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return Summary(0, np.nan, np.nan, np.nan, np.nan)
    low, high = bootstrap_interval(defined, resamples=resamples)
    return Summary(len(defined), float(defined.mean()), float(np.median(defined)), low, high)


def group_summaries(
    values: Float[np.ndarray, " images"],
    groups: Shaped[np.ndarray, " images"],
    names: Sequence[str],
    *,
    resamples: int = 9999,
) -> list[Group]:
    """The summary of each group's images.

    Args:
        values: NaN is left out.
        groups: index into `names` of each image's group; -1 for none.
        names: of the groups.
        resamples: of the bootstrap.

    Example:
        >>> groups = group_summaries(np.array([1.0, 3.0, 5.0]), np.array([0, 0, -1]), ["correct", "wrong"])
        >>> [(group.name, group.summary.count, group.summary.mean) for group in groups]
        [('correct', 2, 2.0), ('wrong', 0, nan)]
    """
    return [Group(name, summarize(values[groups == i], resamples=resamples)) for i, name in enumerate(names)]


def clutter_levels(
    clutter: Int[np.ndarray, " images"], *, at_most: int = 10
) -> tuple[Int[np.ndarray, " images"], list[str]]:
    """Levels of clutter, from the least to the most.

    Each number of things is a level of its own where there are few different ones, as in the paper; else levels hold
    about as many images each.

    Args:
        clutter: number of things in each image; -1 unknown.
        at_most: number of levels.

    Returns:
        (index of each image's level, -1 for unknown; names of the levels).

    Raises:
        ValueError: `at_most` below 1.

    Example:
        >>> clutter_levels(np.array([1, 2, 3, 9, -1]), at_most=2)
        (array([ 0,  0,  1,  1, -1]), ['1-2', '3-9'])
    """
    if at_most < 1:
        raise ValueError(f"at_most: expected at least 1, got {at_most}")
    known = np.sort(clutter[clutter >= 0])
    if len(known) == 0:
        return np.full(len(clutter), -1), []
    starts = np.unique(known)
    if len(starts) > at_most:
        starts = np.unique(known[np.arange(at_most) * len(known) // at_most])
    level = np.searchsorted(starts, clutter, side="right") - 1
    level_of_known = np.searchsorted(starts, known, side="right") - 1
    spans = [known[level_of_known == i][[0, -1]] for i in range(len(starts))]
    return level, [str(low) if low == high else f"{low}-{high}" for low, high in spans]


def relative_loss(groups: Sequence[Group]) -> float:
    """How much of the first group's mean is lost in the last one's: 0.11 for 11 %; NaN for undefined means.

    Example:
        >>> relative_loss([Group("1", summarize(np.array([0.5]))), Group("2", summarize(np.array([0.4])))])
        0.2
    """
    defined = [group.summary.mean for group in groups if group.summary.count]
    if len(defined) < 2 or defined[0] == 0:
        return float("nan")
    return round((defined[0] - defined[-1]) / defined[0], 12)
