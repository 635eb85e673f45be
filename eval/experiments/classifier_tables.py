"""The statistics, tables and figures of `eval.experiments.classifier_folds`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from mlfem_jax.data import face_classes
from mlfem_jax.files import replacing
from mlfem_jax.report import clutter_figure, group_figure, markdown_table, save_figure, write_csv
from mlfem_jax.scores import METRICS, Group, Summary, group_summaries, holm, relative_loss
from mlfem_jax.training.classifier import confusion_matrix, mean_average_precision, top_1

ALL_SEEDS = "all"
_SHOWN = ("pcc", "similarity")


@dataclasses.dataclass(frozen=True)
class Held:
    """Every image, classified and explained by the network that was not trained on it.

    Attributes:
        ids: of the images.
        probabilities: of the classes.
        labels: one class an image.
        correct: whether the most probable class is the image's.
        clutter: number of things in each image, -1 unknown.
        scores: metric to (images, methods); NaN where undefined.
    """

    ids: tuple[str, ...]
    probabilities: Float[np.ndarray, "images classes"]
    labels: Bool[np.ndarray, "images classes"]
    correct: Bool[np.ndarray, " images"]
    clutter: Int[np.ndarray, " images"]
    scores: Mapping[str, Float[np.ndarray, "images methods"]]


class Contrast(NamedTuple):
    """A method's scores in groups of images.

    Attributes:
        seed: of the networks; "all" for the mean over them.
        metric: name.
        method: name.
        groups: in order.
        loss: see `relative_loss`: from the first group to the last.
        p: of the Mann-Whitney test, two-sided, of the first group against the last.
        p_holm: corrected for the number of methods.
    """

    seed: str
    metric: str
    method: str
    groups: list[Group]
    loss: float
    p: float
    p_holm: float


def over_seeds(runs: Sequence[Held]) -> Held:
    """Each image once: mean probabilities and scores, and correct where more than half of the networks are.

    Seeds repeat the same images, so that only this, and no pool of them, has independent rows.
    """
    first = runs[0]
    unlike = sum(run.ids != first.ids for run in runs)
    if unlike:
        raise ValueError(f"runs: expected the same images in the same order, got {unlike} of {len(runs)} with others")
    return dataclasses.replace(
        first,
        probabilities=np.mean([run.probabilities for run in runs], axis=0),
        correct=np.mean([run.correct for run in runs], axis=0) > 0.5,
        scores={metric: np.mean([run.scores[metric] for run in runs], axis=0) for metric in first.scores},
    )


def contrasts(
    seed: str,
    scores: Mapping[str, Float[np.ndarray, "images methods"]],
    methods: Sequence[str],
    groups: Int[np.ndarray, " images"],
    names: Sequence[str],
    *,
    resamples: int,
) -> list[Contrast]:
    """Every metric and method, in groups of images.

    Args:
        seed: to note.
        scores: metric to values.
        methods: their columns.
        groups: index into `names` of each image's group; -1 for none.
        names: of the groups.
        resamples: of the bootstrap.
    """
    rows = []
    for metric, values in scores.items():
        summaries = [group_summaries(column, groups, names, resamples=resamples) for column in values.T]
        raw = np.array([mann_whitney(column[groups == 0], column[groups == len(names) - 1]) for column in values.T])
        for method, own, p, corrected in zip(methods, summaries, raw, holm(raw), strict=True):
            rows.append(Contrast(seed, metric, method, own, relative_loss(own), float(p), float(corrected)))
    return rows


def mann_whitney(first: Float[np.ndarray, " images"], second: Float[np.ndarray, " others"]) -> float:
    """The p-value of the two-sided test that neither group tends to larger values; NaN without an image in each.

    Values that are NaN are left out.

    Source:
        Mann and Whitney 1947, doi:10.1214/aoms/1177730491.

    Example:
        >>> round(mann_whitney(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])), 3)  # 2 of 20 orders
        0.1
    """
    first, second = (values[~np.isnan(values)] for values in (first, second))
    if not len(first) or not len(second):
        return float("nan")
    return float(scipy.stats.mannwhitneyu(first, second).pvalue)


def write_results(
    out: Path, runs: Mapping[str, Held], classes: Sequence[str], methods: Sequence[str], *, resamples: int
) -> str:
    """The Markdown of all results; writes it, the CSV files and the figures.

    Args:
        out: the folder to write.
        runs: seed to results.
        classes: their names.
        methods: names of the columns of the scores.
        resamples: of the bootstrap.
    """
    everyone = {**runs, ALL_SEEDS: over_seeds(list(runs.values()))}
    levels, names = _clutter_quartiles(everyone[ALL_SEEDS])
    of_correct, of_clutter = [], []
    for seed, run in everyone.items():
        wrong = (~run.correct).astype(int)
        of_correct += contrasts(seed, run.scores, methods, wrong, ["correct", "wrong"], resamples=resamples)
        of_clutter += contrasts(seed, run.scores, methods, levels, names, resamples=resamples)
    _write_contrasts(out / "correct.csv", of_correct)
    _write_contrasts(out / "clutter.csv", of_clutter)
    _write_classification(out, runs, classes)
    heading = "Correct (by most seeds) against wrong, scores averaged over seeds"
    save_figure(out / "correct.png", group_figure(_by_metric(of_correct), {}, heading))
    save_figure(out / "clutter.png", clutter_figure(_by_metric(of_clutter)))
    lines = [
        *_classification_lines(runs, classes),
        *_contrast_lines("Experiment ii: correct against wrong", of_correct),
        *_contrast_lines("Experiment iii: clutter, from the least to the most", of_clutter),
    ]
    with replacing(out / "results.md") as file:
        file.write("\n".join([*lines, ""]).encode())
    return "\n".join(lines)


def _clutter_quartiles(run: Held) -> tuple[Int[np.ndarray, " images"], list[str]]:
    """Index of each image's level, -1 for unknown, and names of the levels: quartiles, as Crowd's classes are."""
    known = {image_id: int(count) for image_id, count in zip(run.ids, run.clutter, strict=True) if count >= 0}
    names, level_of = face_classes(known)
    return np.array([level_of.get(image_id, -1) for image_id in run.ids]), [
        name.removesuffix(" faces") for name in names
    ]


def _by_metric(rows: Sequence[Contrast]) -> dict[str, dict[str, list[Group]]]:
    """Title of each shown metric to method to groups, over all seeds."""
    shown: dict[str, dict[str, list[Group]]] = {}
    for row in rows:
        if row.seed == ALL_SEEDS and row.metric in _SHOWN:
            shown.setdefault(METRICS[row.metric].title, {})[row.method] = row.groups
    return shown


def _classification_lines(runs: Mapping[str, Held], classes: Sequence[str]) -> list[str]:
    found = {seed: (top_1(run.probabilities, run.labels), _map(run)) for seed, run in runs.items()}
    mean = np.mean(list(found.values()), axis=0)
    rows = [(seed, len(runs[seed].ids), f"{top:.3f}", f"{area:.3f}") for seed, (top, area) in found.items()]
    last = ("mean", "", f"{mean[0]:.3f}", f"{mean[1]:.3f}")
    lines = [markdown_table(("seed", "images", "top-1", "mean average precision"), [*rows, last]), ""]
    for seed, run in runs.items():
        confused = [(name, *row) for name, row in zip(classes, _confusion(run), strict=True)]
        lines += [markdown_table((f"seed {seed}: class / taken for", *classes), confused), ""]
    return lines


def _contrast_lines(title: str, rows: Sequence[Contrast]) -> list[str]:
    """A table for each shown metric: over all seeds, with the loss of each seed behind it."""
    lines = []
    for metric in _SHOWN:
        own = [row for row in rows if row.metric == metric]
        if not own:
            continue
        header = ["method", *(group.name for group in own[0].groups), "loss", "of each seed"]
        cells = []
        for row in (row for row in own if row.seed == ALL_SEEDS):
            each = [f"{other.loss:.0%}" for other in own if other.method == row.method and other.seed != ALL_SEEDS]
            means = [_cell(group.summary) for group in row.groups]
            cells.append([row.method, *means, f"{row.loss:.0%}", ", ".join(each), f"{row.p:.2g}", f"{row.p_holm:.2g}"])
        lines += [f"**{title}: {METRICS[metric].title}**, mean [95 %] (images)", ""]
        lines += [markdown_table([*header, "p (Mann-Whitney)", "p (Holm)"], cells), ""]
    return lines


def _cell(summary: Summary) -> str:
    return f"{summary.mean:.3f} [{summary.low:.3f}, {summary.high:.3f}] ({summary.count})"


def _write_contrasts(path: Path, rows: Sequence[Contrast]) -> None:
    header = ("seed", "metric", "method", "group", *Summary._fields, "loss", "p_mann_whitney", "p_holm")
    flat = [
        (row.seed, row.metric, row.method, group.name, *group.summary, row.loss, row.p, row.p_holm)
        for row in rows
        for group in row.groups
    ]
    write_csv(path, header, flat)


def _write_classification(out: Path, runs: Mapping[str, Held], classes: Sequence[str]) -> None:
    rows = [(seed, len(run.ids), top_1(run.probabilities, run.labels), _map(run)) for seed, run in runs.items()]
    write_csv(out / "classification.csv", ("seed", "images", "top_1", "map"), rows)
    confusions = [
        (seed, name, *row) for seed, run in runs.items() for name, row in zip(classes, _confusion(run), strict=True)
    ]
    write_csv(out / "confusion.csv", ("seed", "class", *(f"taken for {name}" for name in classes)), confusions)


def _map(run: Held) -> float:
    return mean_average_precision(run.probabilities, run.labels)


def _confusion(run: Held) -> Int[np.ndarray, "classes classes"]:
    truth, prediction = run.labels.argmax(axis=1), run.probabilities.argmax(axis=1)
    return confusion_matrix(truth, prediction, run.labels.shape[1])
