"""What a table of scores says of two methods: who wins, by how much, and whether that is chance. NumPy in, NumPy out.

Scores are (images, methods), paired by image. NaN is undefined, and an image on which one of two methods is undefined
is left out of their comparison.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

_TIE = 1e-5
"""What float32 maps that are equal but for rounding differ by, in any metric, relative to the larger score."""


class Effect(NamedTuple):
    """How much better one method is than another, over the images on which both are defined.

    Attributes:
        images: on which both are defined.
        ties: on how many of them they tie.
        difference: mean of the score minus the other's; NaN for no image.
        low: lower end of the 95 % bootstrap interval of that mean; NaN for fewer than two images.
        high: its upper end.
        superiority: share of the images on which the method is better, a tie counting half; NaN for no image.
        superiority_low: lower end of its 95 % interval.
        superiority_high: its upper end.
    """

    images: int
    ties: int
    difference: float
    low: float
    high: float
    superiority: float
    superiority_low: float
    superiority_high: float


class Survival(NamedTuple):
    """What is left of the order of two methods when their maps are made equally smooth.

    Attributes:
        method: index of the one whose raw mean is better.
        other: index of the other one.
        raw: how much better, by the mean over images; never negative.
        smoothed: the same after the blur; negative where the order turns.
        p_raw: of the paired test.
        p_smoothed: of the paired test after the blur.
        verdict: "survives", "reversed" (both tests are below 0.05), "lost" (only the raw one is), "gained" (only the
            smoothed one is), or "open" (neither is).
    """

    method: int
    other: int
    raw: float
    smoothed: float
    p_raw: float
    p_smoothed: float
    verdict: str


def tied(first: Float[np.ndarray, "*S"], second: Float[np.ndarray, "*T"]) -> Bool[np.ndarray, "*U"]:
    """Whether two scores differ by no more than rounding: by 1e-5, or by that of the larger one if it is above 1.

    Methods that are the same in exact arithmetic (Grad-CAM, HiResCAM and XGrad-CAM before a global mean) differ by
    some 1e-7 in their maps, and would beat one another on half of the images each.

    Example:
        >>> tied(np.array([0.5, 0.5, np.nan]), np.array([0.500001, 0.51, np.nan])).tolist()
        [True, False, False]
    """
    scale = np.maximum(np.maximum(np.abs(first), np.abs(second)), 1.0)
    return np.abs(first - second) <= _TIE * scale


def win_matrix(
    scores: Float[np.ndarray, "images methods"], *, higher_is_better: bool = True
) -> Int[np.ndarray, "methods methods"]:
    """Number of images on which the method of the column is better than the method of the row.

    A tie (`tied`) is a win for neither, nor is an image on which one of the two is undefined.

    Args:
        scores: NaN where undefined.
        higher_is_better: False for KL and deletion.

    Returns:
        (methods, methods), zeros on the diagonal.

    Source:
        The paper, Figure 4.

    Example:
        >>> win_matrix(np.array([[1.0, 2.0], [1.0, 3.0], [5.0, 4.0], [0.0, np.nan]])).tolist()
        [[0, 2], [1, 0]]
    """
    signed = scores if higher_is_better else -scores
    column, row = signed[:, None, :], signed[:, :, None]
    return ((column > row) & ~tied(column, row)).sum(axis=0)  # False where either is NaN


def pair_counts(scores: Float[np.ndarray, "images methods"]) -> Int[np.ndarray, "methods methods"]:
    """Number of images on which both methods are defined.

    Example:
        >>> pair_counts(np.array([[1.0, 2.0], [1.0, np.nan]])).tolist()
        [[2, 1], [1, 1]]
    """
    defined = (~np.isnan(scores)).astype(int)
    return defined.T @ defined


def paired_tests(scores: Float[np.ndarray, "images methods"]) -> Float[np.ndarray, "methods methods"]:
    """p-values of Wilcoxon's signed-rank test, two-sided, of each pair of methods, corrected by Holm's method.

    The number of comparisons that is corrected for is that of the pairs.

    Args:
        scores: an image on which one of the two is undefined is left out of their test.

    Returns:
        (methods, methods), symmetric; 1 where two methods tie on every image and on the diagonal; NaN without an
        image to compare on.

    Source:
        Wilcoxon 1945, doi:10.2307/3001968, with tied pairs (`tied`) left out; Holm 1979, "A simple sequentially
        rejective multiple test procedure", Scandinavian Journal of Statistics 6.

    Example:
        >>> paired_tests(np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])).tolist()  # 2 of 8 signs are as extreme
        [[1.0, 0.25], [0.25, 1.0]]
    """
    methods = scores.shape[1]
    p_values = np.ones((methods, methods))
    rows, columns = np.triu_indices(methods, 1)
    raw = np.array([_wilcoxon(scores[:, i], scores[:, j]) for i, j in zip(rows, columns, strict=True)])
    p_values[rows, columns] = p_values[columns, rows] = holm(raw)
    return p_values


def holm(p_values: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """p-values corrected for their number by Holm's method: the i-th smallest of m, times m - i + 1, at most 1.

    Args:
        p_values: NaN stays NaN, and is not counted.

    Returns:
        As many, in the same order, never decreasing with the raw ones.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03, np.nan])).round(3).tolist()
        [0.03, 0.06, 0.06, nan]
    """
    corrected = np.full(p_values.shape, np.nan)
    order = np.argsort(p_values, kind="stable")[: (~np.isnan(p_values)).sum()]  # NaN is sorted last
    steps = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def effects(
    first: Float[np.ndarray, "images pairs"],
    second: Float[np.ndarray, "images pairs"],
    *,
    higher_is_better: bool = True,
    resamples: int = 9999,
    seed: int = 0,
) -> list[Effect]:
    """How much better the first is than the second, pair after pair: effect sizes, which a p-value is not.

    Args:
        first: scores of the one; NaN where undefined.
        second: scores of the other, on the same images.
        higher_is_better: False for KL and deletion: `superiority` follows it, `difference` is first minus second.
        resamples: of the bootstrap; the same images are drawn for all pairs.
        seed: of the drawing.

    Source:
        The share of images is the probability of superiority of paired data: Grissom and Kim 2012, "Effect sizes for
        research", chapter 6. Intervals are percentiles of the bootstrap (Efron 1979).

    Example:
        >>> effect, = effects(np.array([[1.0], [2.0], [3.0]]), np.array([[0.0], [1.0], [2.0]]), resamples=9)
        >>> effect.difference, effect.low, effect.high, effect.superiority, effect.ties
        (1.0, 1.0, 1.0, 1.0, 0)
    """
    if resamples < 1:
        raise ValueError(f"resamples: expected at least 1, got {resamples}")
    difference = first - second
    if not difference.shape[1]:
        return []
    better = np.where(tied(first, second), 0.5, (difference > 0) if higher_is_better else (difference < 0))
    better = np.where(np.isnan(difference), np.nan, better)
    values = np.concatenate([difference, better], axis=1)
    counted = ~np.isnan(values)
    drawn = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (drawn @ np.where(counted, values, 0.0)) / (drawn @ counted)
        mean = np.where(counted, values, 0.0).sum(axis=0) / counted.sum(axis=0)
    few = counted.sum(axis=0) < 2
    means[:, few] = 0.0
    low, high = np.where(few[None], np.nan, np.nanpercentile(means, (2.5, 97.5), axis=0))
    ties = (tied(first, second) & counted[:, : difference.shape[1]]).sum(axis=0)
    own, share = np.split(np.stack([mean, low, high]), 2, axis=1)
    images = counted[:, : difference.shape[1]].sum(axis=0)
    return [
        Effect(int(n), int(t), *map(float, a), *map(float, b))
        for n, t, a, b in zip(images, ties, own.T, share.T, strict=True)
    ]


def survivals(
    raw: Float[np.ndarray, "images methods"],
    smoothed: Float[np.ndarray, "images methods"],
    *,
    higher_is_better: bool = True,
    level: float = 0.05,
) -> list[Survival]:
    """Which orders of two methods hold when their maps are equally smooth: the control of a table of scores.

    Args:
        raw: scores of the maps as they are.
        smoothed: those of the same maps, blurred.
        higher_is_better: False for KL and EMD.
        level: below which a p-value, corrected by Holm's method over all pairs, tells two methods apart.

    Returns:
        One for each pair of methods that are both defined on some image.

    Example:
        >>> raw = np.arange(12.0)[:, None] + np.array([[0.0, 1.0]])
        >>> [survival.verdict for survival in survivals(raw, -raw)]
        ['reversed']
    """
    sign = 1.0 if higher_is_better else -1.0
    tests, smooth_tests = paired_tests(raw), paired_tests(smoothed)
    found = []
    for i, j in zip(*np.triu_indices(raw.shape[1], 1), strict=True):
        gap, smooth_gap = (sign * _mean_gap(scores[:, i], scores[:, j]) for scores in (raw, smoothed))
        if np.isnan(gap) or np.isnan(smooth_gap):
            continue
        ahead, behind = (i, j) if gap >= 0 else (j, i)
        gap, smooth_gap = abs(gap), smooth_gap if gap >= 0 else -smooth_gap
        p, smooth_p = tests[i, j], smooth_tests[i, j]
        verdict = _VERDICTS[bool(p < level), bool(smooth_p < level)]
        verdict = "reversed" if verdict == "survives" and smooth_gap < 0 else verdict
        found.append(Survival(int(ahead), int(behind), gap, smooth_gap, float(p), float(smooth_p), verdict))
    return found


_VERDICTS = {(True, True): "survives", (True, False): "lost", (False, True): "gained", (False, False): "open"}


def _mean_gap(first: Float[np.ndarray, " images"], second: Float[np.ndarray, " images"]) -> float:
    gaps = first - second
    defined = gaps[~np.isnan(gaps)]
    return float(defined.mean()) if len(defined) else np.nan


def _wilcoxon(first: Float[np.ndarray, " images"], second: Float[np.ndarray, " images"]) -> float:
    differences = np.where(tied(first, second), 0.0, first - second)
    differences = differences[~np.isnan(differences)]
    if len(differences) == 0:
        return np.nan
    if not differences.any():
        return 1.0
    return float(scipy.stats.wilcoxon(differences[differences != 0]).pvalue)
