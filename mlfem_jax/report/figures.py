"""The figures of an evaluation. Every function returns a matplotlib Figure with one panel for each metric."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlfem_jax.files import replacing
from mlfem_jax.scores import Group, Summary

_COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#7a5c3e", "#555555")
_GROUP_COLORS = ("#228833", "#cc3344")
_HUMAN = {"color": "#555555", "linestyle": "--", "linewidth": 1.2}


def win_figure(wins: Mapping[str, Int[np.ndarray, "m m"]], methods: Sequence[str], images: int) -> Figure:
    """Figure 4 of the paper: the number of images on which the method of the column beats that of the row.

    Args:
        wins: title of each metric to its matrix.
        methods: names of rows and columns.
        images: how many there are; colors are shares of them.
    """
    side = 1.6 + 0.62 * len(methods)
    figure, panels = _panels(len(wins), width=side + 0.4, height=side)
    for panel, (title, matrix) in zip(panels, wins.items(), strict=True):
        panel.imshow(matrix, vmin=0, vmax=max(images, 1), cmap="Blues")
        for row, column in np.ndindex(*matrix.shape):
            if row != column:
                dark = matrix[row, column] > 0.6 * images
                panel.text(
                    column, row, matrix[row, column], ha="center", va="center", color="white" if dark else "black"
                )
        panel.set_xticks(range(len(methods)), methods, rotation=45, ha="right", rotation_mode="anchor")
        panel.set_yticks(range(len(methods)), methods)
        panel.set_title(title)
        panel.spines[:].set_visible(False)
    figure.suptitle(f"Images on which the column beats the row, of {images}")
    return figure


def distribution_figure(
    scores: Mapping[str, Float[np.ndarray, "images m"]], methods: Sequence[str], human: Mapping[str, float]
) -> Figure:
    """Figure 5 of the paper: the distribution of each metric over images.

    Args:
        scores: title of each metric to its values; NaN is left out, and the number that remains is written.
        methods: names of the columns.
        human: title of each metric to the mean of one half of the observers against the other; may lack some.
    """
    figure, panels = _panels(len(scores), width=1.3 + 0.75 * len(methods), height=3.6)
    for panel, (title, values) in zip(panels, scores.items(), strict=True):
        defined = [column[~np.isnan(column)] for column in values.T]
        for place, column in enumerate(defined):
            color = _COLORS[place % len(_COLORS)]
            if len(column) > 1 and np.ptp(column) > 0:
                bodies: Any = panel.violinplot([column], [place], widths=0.85, showextrema=False)["bodies"]
                bodies[0].set(facecolor=color, alpha=0.35)
            box = {"facecolor": "white", "edgecolor": color}
            line = {"color": color}
            panel.boxplot(
                [column], positions=[place], widths=0.2, patch_artist=True, showfliers=False, manage_ticks=False,
                boxprops=box, medianprops=line, whiskerprops=line, capprops=line,
            )  # fmt: skip
        names = [f"{name}\n{len(column)}" for name, column in zip(methods, defined, strict=True)]
        panel.set_xticks(range(len(methods)), names, rotation=45 if len(methods) > 6 else 0)
        panel.set_xlim(-0.7, len(methods) - 0.3)
        _draw_human(panel, human.get(title))
        panel.set_title(title)
    figure.suptitle("Distribution over images; under each method, their number")
    return figure


def group_figure(
    groups: Mapping[str, Mapping[str, Sequence[Group]]], human: Mapping[str, float], heading: str
) -> Figure:
    """Figure 6 of the paper: means of two groups of images, method by method, with 95 % intervals.

    Args:
        groups: title of each metric to method to the groups, in one order.
        human: see `distribution_figure`.
        heading: of the figure.
    """
    methods = list(next(iter(groups.values())))
    figure, panels = _panels(len(groups), width=1.3 + 0.75 * len(methods), height=3.4)
    for panel, (title, by_method) in zip(panels, groups.items(), strict=True):
        names = [group.name for group in by_method[methods[0]]]
        width = 0.8 / len(names)
        for i, name in enumerate(names):
            summaries = [by_method[method][i].summary for method in methods]
            places = np.arange(len(methods)) + (i - (len(names) - 1) / 2) * width
            label = f"{name} ({_count_span(summaries)} images)"
            means = [summary.mean for summary in summaries]
            panel.bar(places, means, width * 0.92, color=_GROUP_COLORS[i % 2], alpha=0.75, label=label)
            panel.errorbar(places, means, _spread(summaries), fmt="none", ecolor="black", elinewidth=1, capsize=2)
        panel.set_xticks(range(len(methods)), methods, rotation=45 if len(methods) > 6 else 0)
        _draw_human(panel, human.get(title))
        panel.set_title(title)
        panel.margins(y=0.3)
        panel.legend(frameon=False, fontsize="small", loc="upper left")
    figure.suptitle(heading)
    return figure


def clutter_figure(groups: Mapping[str, Mapping[str, Sequence[Group]]]) -> Figure:
    """Figure 7 of the paper: means against the number of things in the photograph, with 95 % intervals.

    Args:
        groups: title of each metric to method to the levels, from the least to the most cluttered.
    """
    levels = next(iter(next(iter(groups.values())).values()))
    figure, panels = _panels(len(groups), width=1.8 + 0.55 * len(levels), height=3.6)
    for panel, (title, by_method) in zip(panels, groups.items(), strict=True):
        for i, (method, own) in enumerate(by_method.items()):
            summaries = [group.summary for group in own]
            color, marker, line = _style(i)
            means = [summary.mean for summary in summaries]
            panel.plot(means, color=color, marker=marker, linestyle=line, label=method, markersize=4)
            low, high = (np.array([getattr(summary, end) for summary in summaries]) for end in ("low", "high"))
            panel.fill_between(range(len(own)), low, high, color=color, alpha=0.12, linewidth=0)
        most = [max(own[i].summary.count for own in by_method.values()) for i in range(len(levels))]
        names = [f"{group.name}\n({count})" for group, count in zip(levels, most, strict=True)]
        panel.set_xticks(range(len(levels)), names, fontsize="small")
        panel.set_title(title)
        panel.set_xlabel("things in the photograph (number of images)")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside right center")
    figure.suptitle("Score against clutter")
    return figure


def faithfulness_figure(
    points: Mapping[str, tuple[Summary, Summary]], *, plausibility: str, faithfulness: str, marked: Mapping[str, str]
) -> Figure:
    """Plausibility against faithfulness, a point for each method, with 95 % intervals along both.

    Args:
        points: method to (summary of the metric against gaze, summary of the metric against the model).
        plausibility: title of the former.
        faithfulness: title of the latter.
        marked: rows whose plausibility is drawn as a line too, with its label.
    """
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    panel = figure.add_subplot()
    for row, label in marked.items():
        if row in points and np.isfinite(points[row][0].mean):
            panel.axhline(points[row][0].mean, **_HUMAN)
            panel.annotate(label, (1, points[row][0].mean), xycoords=("axes fraction", "data"), xytext=(0, 3),
                           textcoords="offset points", ha="right", fontsize="small", color=_HUMAN["color"])  # fmt: skip
    for i, (method, (against_gaze, against_model)) in enumerate(points.items()):
        x, y = against_model.mean, against_gaze.mean
        if not np.isfinite([x, y]).all():  # people have no stability: not in the legend either
            continue
        color, marker, _ = _style(i)
        spread = _spread([against_gaze]), _spread([against_model])
        panel.errorbar(x, y, *spread, fmt=marker, color=color, elinewidth=0.7, label=method)
    panel.set(xlabel=faithfulness, ylabel=plausibility, title="Plausibility against faithfulness")
    panel.margins(0.1)
    figure.legend(frameon=False, fontsize="small", loc="outside right center")
    _plain(panel)
    return figure


def save_figure(path: Path, figure: Figure) -> bytes:
    """Writes a figure, in the format that the file's suffix names; the file's bytes."""
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=130)
    with replacing(path) as file:
        file.write(picture.getvalue())
    return picture.getvalue()


def _panels(count: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, up to three in a row of at most two feet; sizes in inches."""
    columns = max(1, min(count, 3, int(24 // width)))
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    panels = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for panel in panels:
        _plain(panel)
    return figure, panels


def _style(place: int) -> tuple[str, str, str]:
    """Color, marker and line of a method: different ones for the first 24."""
    turn = place // len(_COLORS)
    return _COLORS[place % len(_COLORS)], "os^"[turn % 3], ("-", "--", ":")[turn % 3]


def _plain(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)


def _spread(summaries: Sequence[Summary]) -> Float[np.ndarray, "2 n"]:
    """Lengths of error bars below and above the means; 0 where there is no interval."""
    ends = [(summary.mean - summary.low, summary.high - summary.mean) for summary in summaries]
    return np.nan_to_num(np.array(ends, float).T).clip(min=0)


def _count_span(summaries: Sequence[Summary]) -> str:
    counts = [summary.count for summary in summaries]
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _draw_human(panel: Axes, mean: float | None) -> None:
    """A line for the human ceiling, if it is known."""
    if mean is not None and np.isfinite(mean):
        panel.axhline(mean, **_HUMAN)
        panel.annotate("humans", (1, mean), xycoords=("axes fraction", "data"), xytext=(0, 3), fontsize="small",
                       textcoords="offset points", ha="right", color=_HUMAN["color"])  # fmt: skip
