"""What changed from one table of scores to another, image by image."""

from typing import NamedTuple

import numpy as np

from mlfem_jax.scores.columns import metric_of
from mlfem_jax.scores.pairs import Effect, effects, holm, paired_tests
from mlfem_jax.scores.read import Scores


class Change(NamedTuple):
    """A method under a metric, in two tables, over the images on which both have it defined.

    Attributes:
        metric: name of the column.
        method: name of the row.
        before: mean in the first table.
        after: mean in the second.
        p: of the paired test, corrected by Holm's method over all that are compared.
        effect: of the second against the first.
    """

    metric: str
    method: str
    before: float
    after: float
    p: float
    effect: Effect


def changes(before: Scores, after: Scores, *, resamples: int = 9999) -> list[Change]:
    """What changed from a table to another: two networks, two weights, before and after a change of code.

    Images are paired by their ids; those that only one of the tables has are left out.

    Args:
        before: the first table.
        after: the second.
        resamples: of the bootstrap.

    Returns:
        One for each metric and method that both have, in the order of the first.

    Raises:
        ValueError: the tables share no image, or no method and metric.
    """
    places = {row["id"]: i for i, row in enumerate(after.first)}
    pairs = [(i, places[row["id"]]) for i, row in enumerate(before.first) if row["id"] in places]
    shared = [
        (metric, row)
        for metric in before.metrics
        if metric in after.metrics
        for row in before.rows
        if row in after.rows
    ]
    if not pairs or not shared:
        raise ValueError(f"tables: expected images, methods and metrics in common, got {len(pairs)} images and "
                         f"{len(shared)} scores")  # fmt: skip
    old, new = (list(own) for own in zip(*pairs, strict=True))
    found = []
    for metric, row in shared:
        first = before.by_metric[metric][old, before.rows.index(row)]
        second = after.by_metric[metric][new, after.rows.index(row)]
        both = ~np.isnan(first) & ~np.isnan(second)
        means = [float(values[both].mean()) if both.any() else np.nan for values in (first, second)]
        (effect,) = effects(
            second[:, None],
            first[:, None],
            higher_is_better=metric_of(metric).higher_is_better,
            resamples=resamples,
        )
        p = float(paired_tests(np.stack([first, second], axis=1))[0, 1])
        found.append(Change(metric, row, means[0], means[1], p, effect))
    corrected = holm(np.array([change.p for change in found]))
    return [change._replace(p=float(p)) for change, p in zip(found, corrected, strict=True)]
