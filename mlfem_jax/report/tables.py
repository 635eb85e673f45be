"""The tables of a report: CSV, LaTeX and HTML."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mlfem_jax.files import printable, replacing
from mlfem_jax.scores import (
    METRICS,
    Groups,
    Scores,
    Summaries,
    Summary,
    methods_only,
    pair_counts,
    paired_tests,
    relative_loss,
    undefined_counts,
    win_matrix,
)

HtmlTable: TypeAlias = tuple[Sequence[str], Sequence[Sequence[str]]]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


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
    """Writes a CSV file, numbers with six digits; text that a spreadsheet would take for a formula gets a ' before."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(cell) for cell in row] for row in [header, *rows])
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        # On one line: the module does not quote a lone carriage return, and the row would end there.
        return f"'{printable(value)}" if value.startswith(_FORMULA) else printable(value)
    return f"{value:.6g}" if isinstance(value, float) else value


def escape_latex(text: str) -> str:
    r"""The text as LaTeX sets it, whatever characters are in it.

    Example:
        >>> print(escape_latex(r"50 % of_a\b"))
        50 \% of\_a\textbackslash{}b
    """
    return "".join(_LATEX.get(character, character) for character in printable(text))


def _latex(scores: Scores, summaries: Summaries) -> str:
    """Means over images, the best method's in bold, with half the width of the 95 % interval."""
    best = {metric: _best(metric, scores, summaries) for metric in scores.metrics}
    arrows = {True: r" $\uparrow$", False: r" $\downarrow$"}
    titles = [escape_latex(METRICS[name].title) + arrows[METRICS[name].higher_is_better] for name in scores.metrics]
    lines = [r"\begin{tabular}{l" + "r" * len(titles) + "}", r"\hline", " & ".join(["", *titles]) + r" \\", r"\hline"]
    for row in scores.rows:
        cells = [escape_latex(row)]
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
    undefined = undefined_counts(scores.table, scores.rows, scores.metrics)
    tables: dict[str, HtmlTable] = {
        "Mean over images, and its 95 % bootstrap interval": (("method", *titles), means),
        "Median over images": (("method", *titles), medians),
    }
    if any(counts["constant"] or any(counts[metric] for metric in scores.metrics) for counts in undefined):
        header = ("method", "images", "constant maps", *titles)
        tables["Undefined values (left out above)"] = (header, [tuple(map(str, row.values())) for row in undefined])
    if clutter:
        losses = [(row, *(f"{relative_loss(clutter[metric][row]):.0%}" for metric in scores.metrics))
                  for row in scores.rows]  # fmt: skip
        tables["Change of the mean from the least to the most cluttered level, as a loss"] = (
            ("method", *titles), losses)  # fmt: skip
    return tables


def p_value_tables(scores: Scores) -> dict[str, HtmlTable]:
    """Caption to (header, rows) of the p-values of each pair of methods, metric by metric; none for one method."""
    tables: dict[str, HtmlTable] = {}
    for metric in scores.metrics if len(scores.methods) > 1 else ():
        p_values = paired_tests(methods_only(scores, metric))
        cells = [
            (name, *("" if i == j else f"{p:.2g}" for j, p in enumerate(p_values[i])))
            for i, name in enumerate(scores.methods)
        ]
        caption = f"{METRICS[metric].title}: p of Wilcoxon's signed-rank test, corrected by Holm's method"
        tables[caption] = (("method", *scores.methods), cells)
    return tables
