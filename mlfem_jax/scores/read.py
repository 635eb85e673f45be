"""The table of scores in summary: what the report writes as CSV, LaTeX and HTML tables."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from mlfem_jax.runs import read_settings
from mlfem_jax.scores.plan import PEOPLE
from mlfem_jax.scores.statistics import (
    Group,
    Summary,
    group_summaries,
)
from mlfem_jax.scores.table import read_scores, score_matrix

Summaries: TypeAlias = Mapping[tuple[str, str], Summary]  # by metric and row
Groups: TypeAlias = Mapping[str, Mapping[str, Sequence[Group]]]  # metric to row to groups; empty where there are none


@dataclasses.dataclass(frozen=True)
class Scores:
    """The table, ready to be analyzed.

    Attributes:
        settings: that produced it.
        table: the rows.
        rows: names of the methods, those of people last if they are there.
        methods: without people.
        metrics: names.
        by_metric: metric to (images, rows).
        first: the rows of the first method, one for each image.
    """

    settings: dict[str, Any]
    table: pa.Table
    rows: tuple[str, ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    by_metric: dict[str, Float[np.ndarray, "images rows"]]
    first: list[dict[str, Any]]


def load(folder: Path) -> Scores:
    """The table of a folder.

    Raises:
        ValueError: images are missing: the scoring has not ended.
    """
    settings = read_settings(folder)
    kinds = {"rows": list, "metrics": list, "images": int}
    if not all(isinstance(settings.get(name), kind) and settings[name] for name, kind in kinds.items()):
        raise ValueError(f"{folder}: expected a table of scores, got the run of something else")
    table = read_scores(folder)
    rows, metrics = tuple(settings["rows"]), tuple(settings["metrics"])
    by_metric = {metric: score_matrix(table, metric, rows) for metric in metrics}
    images = len(by_metric[metrics[0]])
    if images != settings["images"]:
        raise ValueError(
            f"{folder}: expected the scores of {settings['images']} images, got those of {images}; "
            "run `mlfem score` again"
        )
    keep = np.asarray(table["method"].to_pylist()) == rows[0]
    first = table.filter(pa.array(keep)).to_pylist()
    methods = tuple(row for row in rows if row not in PEOPLE)
    return Scores(settings, table, rows, methods, metrics, by_metric, first)


def correctness(scores: Scores) -> Int[np.ndarray, " images"]:
    """0 for correct, 1 for wrong, -1 for unknown."""
    return np.array([-1 if row["correct"] is None else int(not row["correct"]) for row in scores.first])


def clutter_counts(scores: Scores) -> Int[np.ndarray, " images"]:
    """Number of things in each image, -1 for unknown."""
    return np.array([-1 if row["clutter"] is None else row["clutter"] for row in scores.first])


def groups_of(
    scores: Scores, groups: Int[np.ndarray, " images"], names: Sequence[str], resamples: int
) -> dict[str, dict[str, list[Group]]]:
    """Metric to row to groups; empty where no image is in any."""
    if not (groups >= 0).any():
        return {}
    return {
        metric: {
            row: group_summaries(values[:, i], groups, names, resamples=resamples) for i, row in enumerate(scores.rows)
        }
        for metric, values in scores.by_metric.items()
    }


def methods_only(scores: Scores, metric: str) -> Float[np.ndarray, "images methods"]:
    """A metric's scores without the humans' column."""
    return scores.by_metric[metric][:, : len(scores.methods)]
