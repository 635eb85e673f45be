"""The table of scores in summary: what the report writes as CSV, LaTeX and HTML tables."""

import csv
import dataclasses
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from mlfem_jax.analysis import (
    Group,
    Summary,
    group_summaries,
    pair_counts,
    paired_tests,
    relative_loss,
    win_matrix,
)
from mlfem_jax.files import replacing
from mlfem_jax.score_metrics import METRICS
from mlfem_jax.score_plan import HUMANS
from mlfem_jax.score_table import read_scores, read_settings, score_matrix, undefined_counts

Summaries: TypeAlias = Mapping[tuple[str, str], Summary]  # by metric and row
Groups: TypeAlias = Mapping[str, Mapping[str, Sequence[Group]]]  # metric to row to groups; empty where there are none
HtmlTable: TypeAlias = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclasses.dataclass(frozen=True)
class Scores:
    """The table, ready to be analysed.

    Attributes:
        settings: that produced it.
        table: the rows.
        rows: names of the methods, the humans' last if they are there.
        methods: without the humans.
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
    settings, table = read_settings(folder), read_scores(folder)
    rows, metrics = tuple(settings["rows"]), tuple(settings["metrics"])
    by_metric = {metric: score_matrix(table, metric, rows) for metric in metrics}
    images = len(by_metric[metrics[0]])
    if images != settings["images"]:
        raise ValueError(f"{folder} has the scores of {images} of {settings['images']} images: run eval.score again")
    keep = np.asarray(table["method"].to_pylist()) == rows[0]
    first = table.filter(pa.array(keep)).to_pylist()
    methods = tuple(row for row in rows if row != HUMANS)
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


def write_tables(
    out: Path,
    scores: Scores,
    summaries: Summaries,
    groups: Mapping[str, Groups],
) -> None:
    """summary.csv and .tex, pairs.csv (wins and tests), and a CSV file of each kind of groups."""
    undefined = {counts["method"]: counts for counts in undefined_counts(scores.table, scores.rows, scores.metrics)}
    rows = [
        (metric, row, *summary, undefined[row][metric], undefined[row]["constant"])
        for (metric, row), summary in summaries.items()
    ]
    write_csv(out / "summary.csv", ("metric", "method", *Summary._fields, "undefined", "constant_maps"), rows)
    pairs = []
    for metric in scores.metrics:
        values = methods_only(scores, metric)
        wins = win_matrix(values, higher_is_better=METRICS[metric].higher_is_better)
        counts, p_values = pair_counts(values), paired_tests(values)
        for i, j in itertools.permutations(range(len(scores.methods)), 2):
            names = (scores.methods[j], scores.methods[i])
            pairs.append((metric, *names, wins[i, j], wins[j, i], counts[i, j], p_values[i, j]))
    header = ("metric", "method", "other", "wins", "losses", "images", "p_wilcoxon_holm")
    write_csv(out / "pairs.csv", header, pairs)
    for kind, by_metric in groups.items():
        rows = [
            (metric, row, group.name, *group.summary)
            for metric, by_row in by_metric.items()
            for row, own in by_row.items()
            for group in own
        ]
        write_csv(out / f"{kind}.csv", ("metric", "method", kind, *Summary._fields), rows)
    with replacing(out / "summary.tex") as file:
        file.write(_latex(scores, summaries).encode())


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Writes a CSV file, numbers with six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _latex(scores: Scores, summaries: Summaries) -> str:
    """Means over images, the best method's in bold, with half the width of the 95 % interval."""
    best = {metric: _best(metric, scores, summaries) for metric in scores.metrics}
    titles = [METRICS[metric].title + (r" $\uparrow$" if METRICS[metric].higher_is_better else r" $\downarrow$")
              for metric in scores.metrics]  # fmt: skip
    lines = [r"\begin{tabular}{l" + "r" * len(titles) + "}", r"\hline", " & ".join(["", *titles]) + r" \\", r"\hline"]
    for row in scores.rows:
        cells = [row.replace("_", r"\_")]
        for metric in scores.metrics:
            summary = summaries[metric, row]
            mean = f"{summary.mean:.3f}" if row != best[metric] else rf"\textbf{{{summary.mean:.3f}}}"
            cells.append(rf"{mean} $\pm$ {(summary.high - summary.low) / 2:.3f}" if summary.count > 1 else "--")
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def _best(metric: str, scores: Scores, summaries: Summaries) -> str | None:
    means = {row: summaries[metric, row].mean for row in scores.methods if summaries[metric, row].count}
    choose = max if METRICS[metric].higher_is_better else min
    return choose(means, key=lambda row: means[row]) if means else None


def page_tables(
    scores: Scores,
    summaries: Summaries,
    clutter: Groups,
) -> dict[str, HtmlTable]:
    """Caption to (header, rows)."""
    titles = [METRICS[metric].title for metric in scores.metrics]
    means = [
        (row, *(f"{summary.mean:.3f} [{summary.low:.3f}, {summary.high:.3f}]" for summary in
                (summaries[metric, row] for metric in scores.metrics)))
        for row in scores.rows
    ]  # fmt: skip
    medians = [(row, *(f"{summaries[metric, row].median:.3f}" for metric in scores.metrics)) for row in scores.rows]
    counts = [
        tuple(map(str, counts.values())) for counts in undefined_counts(scores.table, scores.rows, scores.metrics)
    ]
    tables: dict[str, HtmlTable] = {
        "Mean over images, and its 95 % bootstrap interval": (("method", *titles), means),
        "Median over images": (("method", *titles), medians),
        "Undefined values (left out above)": (("method", "images", "constant maps", *titles), counts),
    }
    for metric in scores.metrics:
        p_values = paired_tests(methods_only(scores, metric))
        cells = [
            (name, *("" if i == j else f"{p:.2g}" for j, p in enumerate(p_values[i])))
            for i, name in enumerate(scores.methods)
        ]
        caption = f"{METRICS[metric].title}: p of Wilcoxon's signed-rank test, corrected by Holm's method"
        tables[caption] = (("method", *scores.methods), cells)
    if clutter:
        losses = [(row, *(f"{relative_loss(clutter[metric][row]):.0%}" for metric in scores.metrics))
                  for row in scores.rows]  # fmt: skip
        tables["Change of the mean from the least to the most cluttered level, as a loss"] = (
            ("method", *titles), losses)  # fmt: skip
    return tables
