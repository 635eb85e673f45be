"""What the cross-validations of fusions share: choices, tables, and what is kept of a finished fit."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from mlfem_jax.files import replacing
from mlfem_jax.report import markdown_table, save_figure
from mlfem_jax.scores import Summary, summarize

KS = (0.5, 1.0, 1.5, 2.0, 3.0)
ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
FUSIONS = ("fem", "max", "mean", *(f"{operator} {alpha}" for operator in ("add", "top") for alpha in ALPHAS))
Scores = dict[str, Any]


def algebra_rows(folds: tuple[np.ndarray, ...], grid: Scores, scored: Scores, *, inside: bool) -> dict[str, Scores]:
    """Scores of each algebraic fusion, its k and alpha being those of the best mean PCC on the training folds."""
    rows: dict[str, Scores] = {}
    for name in ("fem", "max", "mean", "add", "top"):
        columns = np.array([fusion.split()[0] == name for fusion in FUSIONS])
        parts: dict[str, list] = {"pcc": [], "sim": []}
        for fold in folds:
            k, column = best_choice(grid["pcc"], others(folds, fold), columns)
            for metric, values in parts.items():
                of_choice = scored[metric][:, k, column]
                values.append(of_choice[fold] if inside else of_choice)
        rows[name] = {m: np.concatenate(v) if inside else np.mean(v, axis=0) for m, v in parts.items()}
    return rows


def best_choice(pccs: np.ndarray, positions: np.ndarray, columns: np.ndarray) -> tuple[int, int]:
    """Indices of k and of the fusion with the best mean PCC on some images."""
    means = np.where(columns[None], np.nanmean(pccs[positions], axis=0), -np.inf)
    k, column = np.unravel_index(np.argmax(means), means.shape)
    return int(k), int(column)


def others(folds: tuple[np.ndarray, ...], fold: np.ndarray) -> np.ndarray:
    """Positions in all folds but one."""
    return np.concatenate([other for other in folds if other is not fold])


def kept(path: Path, compute: Callable[[], Scores]) -> Scores:
    """What `compute` gives, from the file if it was computed before."""
    if not path.exists():
        with replacing(path) as file:
            np.savez(file, **compute())
    with np.load(path) as found:
        return dict(found)


def gathered(found: list[Scores], *, inside: bool, metrics: Sequence[str] = ("pcc", "sim")) -> Scores:
    """Of each fold's images, or the mean over the folds' models."""
    join = np.concatenate if inside else functools.partial(np.mean, axis=0)
    return {metric: join([np.asarray(values[metric]) for values in found]) for metric in metrics}


def report(out: Path, title: str, rows: Mapping[str, Scores]) -> None:
    """Prints a table, and writes it as Markdown beside its images' scores."""
    lines = [[name, *_interval(scores["pcc"]), *_interval(scores["sim"])] for name, scores in rows.items()]
    table = Table("fusion", "PCC", "95 %", "SIM", "95 %", "undefined", title=title)
    for line, scores in zip(lines, rows.values(), strict=True):
        table.add_row(*line, str(int(np.isnan(scores["pcc"]).sum())))
    Console().print(table)
    text = markdown_table(("fusion", "PCC", "95 %", "SIM", "95 %"), lines) + "\n"
    stem = title.replace(",", "").replace(" ", "_")
    with replacing(out / f"{stem}.md") as file:
        file.write(text.encode())
    with replacing(out / f"{stem}.npz") as file:
        np.savez(
            file, **{f"{name}/{metric}": values for name, scores in rows.items() for metric, values in scores.items()}
        )


def _interval(values: np.ndarray) -> tuple[str, str]:
    """The mean, and its 95 % bootstrap interval over images, as they are shown."""
    summary = summarize(values.astype(np.float64))
    return f"{summary.mean:.3f}", f"{summary.low:.3f} to {summary.high:.3f}"


def with_interval(summary: Summary) -> str:
    """A mean and its interval in one cell.

    Example:
        >>> with_interval(summarize(np.ones(3)))
        '1.000 (1.000 to 1.000)'
    """
    return f"{summary.mean:.3f} ({summary.low:.3f} to {summary.high:.3f})"


def report_choices(out: Path, folds: tuple[np.ndarray, ...], grid: Scores) -> None:
    """Prints k and alpha chosen in each fold, and draws the mean PCC over alpha for each k, on all training folds."""
    for name in ("fem", "max", "mean", "add", "top"):
        columns = np.array([fusion.split()[0] == name for fusion in FUSIONS])
        chosen = [best_choice(grid["pcc"], others(folds, fold), columns) for fold in folds]
        shown = sorted({f"k {KS[k]:g}, {FUSIONS[column]}" for k, column in chosen})
        Console().print(f"{name}: chosen on the training folds: {'; '.join(shown)}", highlight=False)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    means = np.nanmean(grid["pcc"], axis=0)
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("add", "top"), strict=True):
        columns = [i for i, fusion in enumerate(FUSIONS) if fusion.startswith(name)]
        for k, row in zip(KS, means, strict=True):
            axes.plot(ALPHAS, row[columns], marker=".", label=f"k = {k:g}")
        axes.set(xlabel="alpha", ylabel="mean PCC", title=name)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    save_figure(out / "alpha.png", figure)
