"""The tables and figures of the paper, and a page of every image, from a table of scores alone.

    mlfem report SCORES --out REPORT

SCORES is what `mlfem score` wrote. REPORT gets CSV files, a LaTeX table, figures as PNG and SVG, and
`report.html`, one file that opens from the disk.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import Float
from matplotlib.figure import Figure

from mlfem_jax.files import refuse_foreign, writing
from mlfem_jax.report.figures import (
    clutter_figure,
    distribution_figure,
    faithfulness_figure,
    group_figure,
    save_figure,
    win_figure,
)
from mlfem_jax.report.page import Layout, ScoredImage, encode_pictures, write_score_page
from mlfem_jax.report.recordings import draw_recording
from mlfem_jax.report.tables import p_value_tables, page_tables, write_tables
from mlfem_jax.scores import (
    HUMANS,
    Group,
    Groups,
    Scores,
    Summaries,
    clutter_counts,
    clutter_levels,
    correctness,
    groups_of,
    load,
    methods_only,
    metric_of,
    read_pictures,
    summarize,
    win_matrix,
)

_MEANS = {"model": "more faithful", "method": "better", "map": "simpler"}
_SHOWN_SETTINGS = (
    "dataset",
    "split",
    "fold",
    "images",
    "backbone",
    "weights",
    "input_size",
    "rule",
    "sigma_px",
    "task",
    "target",
    "frame",
    "compare_in",
    "bars",
)


_OF_PHOTOS = ("rule", "compare_in", "bars")
"""Settings that recordings do not have."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The tables and figures of the paper, and a page of every image, from a table of scores alone.

    Attributes:
        scores: the folder that `mlfem score` wrote.
        out: the folder to write; files in it are replaced.
        images: how many can be looked at on the page, spread over the table; tables and figures count all.
        levels: of clutter, at most.
        resamples: of the bootstrap.
    """

    scores: tyro.conf.Positional[Path]
    out: Path
    images: int = 1000
    levels: int = 10
    resamples: int = 9999


def write_report(config: Annotated[Config, tyro.conf.arg(name="")]) -> None:
    """Draws the tables and figures of the paper, and a page of every image, from a table of scores alone.

    Args:
        config: which scores, and where the report goes.

    Raises:
        ValueError: the scores are not complete, or of different settings; another process writes to `out`.
        OSError: there are none; a file of somebody else's would be written over.
    """
    scores = load(config.scores)
    with writing(config.out):
        refuse_foreign(config.out, _written(scores))
        _write_report(config, scores)


def _written(scores: Scores) -> list[str]:
    """Names of all files that a report may have."""
    tables = ["summary.csv", "summary.tex", "pairs.csv", "smoothing.csv", "correct.csv", "clutter.csv"]
    figures = ["wins", "distributions", "correct", "clutter", *(f"plausibility_{metric}" for metric in scores.metrics)]
    return ["report.html", *tables, *(f"{name}.{kind}" for name in figures for kind in ("svg", "png"))]


def _write_report(config: Config, scores: Scores) -> None:
    summaries = {
        (metric, row): summarize(scores.by_metric[metric][:, i], resamples=config.resamples)
        for metric in scores.metrics
        for i, row in enumerate(scores.rows)
    }
    correct = groups_of(scores, correctness(scores), ["correct", "wrong"], config.resamples)
    levels, names = clutter_levels(clutter_counts(scores), at_most=config.levels)
    clutter = groups_of(scores, levels, names, config.resamples)
    write_tables(config.out, scores, summaries, {"correct": correct, "clutter": clutter})
    figures = _figures(scores, summaries, correct, clutter)
    pictures = {caption: _save(figure, config.out / name) for name, (caption, figure) in figures.items()}
    images, lines = _images(config, scores)
    write_score_page(
        config.out / "report.html",
        title=_title(scores.settings),
        settings=_shown_settings(scores, len(images)),
        tables=page_tables(scores, summaries, clutter),
        tests=p_value_tables(scores),
        figures=pictures,
        images=images,
        pictures=lines,
        gaze=scores.settings["gaze"],
        methods=scores.rows,
        metrics=[
            {"name": name, "title": metric_of(name).title, "higher": metric_of(name).higher_is_better}
            for name in scores.metrics
        ],
        layout=_layout(scores.settings),
        recordings="map_shape" in scores.settings,
    )


def _layout(settings: Mapping[str, Any]) -> Layout:
    """What the pictures of the page are."""
    axes = len(settings["input_size"]) if settings.get("map_shape") else 2
    layouts: dict[int, Layout] = {1: "signals", 3: "strips"}
    return layouts.get(axes, "photos")


def _title(settings: Mapping[str, Any]) -> str:
    people = " and people" if settings["gaze"] and not settings.get("map_shape") else ""
    return f"{settings['dataset']}: what {settings['backbone']}{people} looked at"


def _figures(
    scores: Scores,
    summaries: Summaries,
    correct: Groups,
    clutter: Groups,
) -> dict[str, tuple[str, Figure]]:
    """File name to (caption, figure)."""
    titled = {metric: metric_of(metric).title for metric in scores.metrics}
    human = {titled[metric]: summaries[metric, HUMANS].mean for metric in scores.metrics if HUMANS in scores.rows}
    values = {title: methods_only(scores, metric) for metric, title in titled.items()}
    wins = {
        title: win_matrix(values[title], higher_is_better=metric_of(metric).higher_is_better)
        for metric, title in titled.items()
    }
    figures = {
        "wins": ("Win matrices (Figure 4)", win_figure(wins, scores.methods, len(scores.first))),
        "distributions": ("Distributions (Figure 5)", distribution_figure(values, scores.methods, human)),
    }
    if correct:
        groups = {title: _only(correct[metric], scores.methods) for metric, title in titled.items()}
        figure = group_figure(groups, human, "Correctly and wrongly classified images")
        figures["correct"] = ("Correct and wrong predictions (Figure 6)", figure)
    if clutter:
        groups = {title: clutter[metric] for metric, title in titled.items()}
        figures["clutter"] = ("Score against clutter (Figure 7)", clutter_figure(groups))
    against_gaze = next((metric for metric in scores.metrics if metric_of(metric).against == "gaze"), None)
    for metric in scores.metrics:
        if metric_of(metric).against != "gaze" and against_gaze:
            points = {row: (summaries[against_gaze, row], summaries[metric, row]) for row in scores.rows}
            arrow = "higher" if metric_of(metric).higher_is_better else "lower"
            figure = faithfulness_figure(
                points,
                plausibility=titled[against_gaze],
                faithfulness=f"{titled[metric]} ({arrow} is {_MEANS[metric_of(metric).against]})",
                marked={HUMANS: "human ceiling", "center": "center prior"},
            )
            figures[f"plausibility_{metric}"] = (f"Plausibility against faithfulness: {titled[metric]}", figure)
    return figures


def _only(by_row: Mapping[str, Sequence[Group]], rows: Sequence[str]) -> dict[str, Sequence[Group]]:
    return {row: by_row[row] for row in rows}


def _save(figure: Figure, path: Path) -> bytes:
    """Writes the figure as SVG and PNG; the PNG file's bytes."""
    save_figure(path.with_name(f"{path.name}.svg"), figure)
    return save_figure(path.with_name(f"{path.name}.png"), figure)


def _images(config: Config, scores: Scores) -> tuple[list[ScoredImage], list[str]]:
    """The images of the page, spread evenly over the table, and their pictures."""
    count = len(scores.first)
    chosen = np.unique(np.linspace(0, count - 1, min(count, config.images)).round().astype(int))
    stacked = np.stack([scores.by_metric[metric] for metric in scores.metrics], axis=2)
    images = [_scored_image(scores.first[i], stacked[i], scores.settings) for i in chosen]
    if not scores.settings["map_size"]:
        return images, []
    kept = set(chosen.tolist())
    shape = scores.settings.get("map_shape")
    drawn = draw_recording if shape else bytes  # photographs are pictures already
    lines = [
        encode_pictures(
            drawn(picture["photo"]), [picture["gaze"], *(row["map"] for row in rows)], tuple(shape) if shape else None
        )
        for i, (picture, rows) in enumerate(read_pictures(config.scores))
        if i in kept
    ]
    return images, lines


def _scored_image(
    row: Mapping[str, Any], values: Float[np.ndarray, "rows metrics"], settings: Mapping[str, Any]
) -> ScoredImage:
    def name(label: int, names: Sequence[str]) -> str:
        return names[label] if label < len(names) else f"class {label}"

    prediction = name(row["prediction"], settings["network_labels"])
    return ScoredImage(
        id=row["id"],
        labels=tuple(name(label, settings["class_names"]) for label in row["labels"]),
        prediction=f"{prediction} ({row['probability']:.0%})",
        correct=row["correct"],
        clutter=row["clutter"],
        scores=values.tolist(),
    )


def _shown_settings(scores: Scores, images: int) -> dict[str, object]:
    left = _OF_PHOTOS if "map_shape" in scores.settings else ()
    names = [name for name in _SHOWN_SETTINGS if name not in left and scores.settings.get(name) is not None]
    shown = {name: scores.settings[name] for name in names}
    shown |= {"version": scores.settings["version"], "commit": (scores.settings["commit"] or "unknown")[:12]}
    if images < len(scores.first):
        shown["images to look at"] = images
    return shown
