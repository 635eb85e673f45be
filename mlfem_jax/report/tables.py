"""The tables of a report: CSV, LaTeX and HTML."""

import collections
import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mlfem_jax.files import printable, replacing
from mlfem_jax.scores import (
    Effect,
    Groups,
    Scores,
    Summaries,
    Summary,
    Survival,
    column,
    effects,
    methods_only,
    metric_of,
    paired_tests,
    relative_loss,
    survivals,
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
    """summary.csv and .tex, pairs.csv (wins, tests, effects), smoothing.csv, and a CSV file of each kind of groups."""
    undefined = {counts["method"]: counts for counts in undefined_counts(scores.table, scores.rows, scores.metrics)}
    rows = [
        (metric, row, *summary, undefined[row][metric], undefined[row]["constant"])
        for (metric, row), summary in summaries.items()
    ]
    write_csv(out / "summary.csv", ("metric", "method", *Summary._fields, "undefined", "constant_maps"), rows)
    _write_pairs(out / "pairs.csv", scores)
    _write_smoothing(out / "smoothing.csv", scores)
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


def _write_pairs(path: Path, scores: Scores) -> None:
    """Each method against each other one: wins, losses, ties, the paired test, and effect sizes with intervals."""
    pairs = []
    for metric in scores.metrics:
        values, higher = methods_only(scores, metric), metric_of(metric).higher_is_better
        wins, p_values = win_matrix(values, higher_is_better=higher), paired_tests(values)
        places = list(itertools.permutations(range(len(scores.methods)), 2))
        own, other = (values[:, [place[side] for place in places]] for side in (1, 0))
        for (i, j), effect in zip(places, effects(own, other, higher_is_better=higher), strict=True):
            images, ties, *sizes = effect
            names = (scores.methods[j], scores.methods[i])
            pairs.append((metric, *names, wins[i, j], wins[j, i], ties, images, p_values[i, j], *sizes))
    header = ("metric", "method", "other", "wins", "losses", "ties", "images", "p_wilcoxon_holm", *Effect._fields[2:])
    write_csv(path, header, pairs)


def smoothing_pairs(scores: Scores) -> dict[tuple[str, str], list[Survival]]:
    """(column of raw maps, column of the same metric after a blur) to what survives it; empty without both."""
    return {
        (raw, blurred): survivals(
            methods_only(scores, raw), methods_only(scores, blurred), higher_is_better=metric_of(raw).higher_is_better
        )
        for raw in scores.metrics
        for blurred in scores.metrics
        if column(raw).smoothing == "none" != column(blurred).smoothing and column(blurred).metric == raw
    }


def _write_smoothing(path: Path, scores: Scores) -> None:
    """Which orders of two methods survive a blur; the header alone where nothing was blurred."""
    rows = [
        (raw, blurred, scores.methods[method], scores.methods[other], *numbers)
        for (raw, blurred), found in smoothing_pairs(scores).items()
        for method, other, *numbers in found
    ]
    write_csv(path, ("metric", "blurred", *Survival._fields), rows)


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
    titles = [escape_latex(metric_of(name).title) + arrows[metric_of(name).higher_is_better] for name in scores.metrics]
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
    return next(iter(_places(metric, scores, summaries)), None)


def page_tables(
    scores: Scores,
    summaries: Summaries,
    clutter: Groups,
) -> dict[str, HtmlTable]:
    """Caption to (header, rows)."""
    titles = [metric_of(metric).title for metric in scores.metrics]
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
    return tables | _smoothing_tables(scores, summaries)


def p_value_tables(scores: Scores) -> dict[str, HtmlTable]:
    """Caption to (header, rows) of the p-values of each pair of methods, metric by metric; none for one method."""
    tables: dict[str, HtmlTable] = {}
    for metric in scores.metrics if len(scores.methods) > 1 else ():
        p_values = paired_tests(methods_only(scores, metric))
        cells = [
            (name, *("" if i == j else f"{p:.2g}" for j, p in enumerate(p_values[i])))
            for i, name in enumerate(scores.methods)
        ]
        caption = f"{metric_of(metric).title}: p of Wilcoxon's signed-rank test, corrected by Holm's method"
        tables[caption] = (("method", *scores.methods), cells)
    return tables


def _smoothing_tables(scores: Scores, summaries: Summaries) -> dict[str, HtmlTable]:
    """For each metric with and without a blur: the means and places of the methods, and how many orders survive."""
    tables: dict[str, HtmlTable] = {}
    for (raw, blurred), found in smoothing_pairs(scores).items():
        places = [_places(name, scores, summaries) for name in (raw, blurred)]
        names = scores.methods
        reversed_pairs = [(names[s.method], names[s.other]) for s in found if s.verdict == "reversed"]
        rows = []
        for row in sorted(places[0], key=lambda row: places[0][row]):
            means = (f"{summaries[name, row].mean:.3f}" for name in (raw, blurred))
            turned = [other for pair in reversed_pairs if row in pair for other in pair if other != row]
            cells = [cell for pair in zip(means, (str(place[row]) for place in places), strict=True) for cell in pair]
            rows.append((row, *cells, ", ".join(turned)))
        titles = [metric_of(name).title for name in (raw, blurred)]
        counts = collections.Counter(survival.verdict for survival in found)
        caption = (
            f"{titles[0]}, raw against {titles[1].partition(', ')[2]}: of {len(found)} orders of two methods "
            f"{counts['survives']} survive, {counts['reversed']} are reversed, {counts['lost']} are lost, "
            f"{counts['gained']} appear, {counts['open']} are open (Wilcoxon, Holm, 0.05)"
        )
        tables[caption] = (("method", titles[0], "place", titles[1], "place", "reversed against"), rows)
    return tables


def _places(metric: str, scores: Scores, summaries: Summaries) -> dict[str, int]:
    """The place of each method that has a mean, the best first."""
    means = {row: summaries[metric, row].mean for row in scores.methods if summaries[metric, row].count}
    ordered = sorted(means, key=lambda row: means[row], reverse=metric_of(metric).higher_is_better)
    return {row: place for place, row in enumerate(ordered, start=1)}
