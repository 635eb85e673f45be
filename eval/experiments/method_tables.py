"""The tables of docs/results.md: every method against gaze, its maps as they are and blurred as gaze is.

    python -m eval.experiments.method_tables data/osie --out out/osie --fold 0 5 --subset 60
    python -m eval.experiments.method_tables data/crowd --out out/crowd --subset 60
    python -m eval.experiments.method_tables data/osie --out out/try --first 4 --subset 2

Two runs of `mlfem score`, which go on where they were: the methods of one pass on all images; and all methods, those
too that repeat forwards or gradients, on the same first images of them. A cell of `tables.md` is "raw / blurred"; under
each table stands what is left of every order of two methods. The fusions that ship were trained on all of OSIE: give
those of other folds by `--fusions net:weights=FILE`.
"""

import collections
import dataclasses
import sys
from pathlib import Path

import tyro

from eval.experiments.splits import first_images
from mlfem_jax import load_backbone, scores
from mlfem_jax.attribution import METHODS, accepted_options, methods_on
from mlfem_jax.cli import run_command
from mlfem_jax.files import replacing
from mlfem_jax.report import markdown_table

_REPEATED = {"internal_batch_size", "steps", "samples"}
"""Options of methods that repeat forwards or gradients."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Every method against gaze, raw and blurred.

    Attributes:
        directory: the folder of the prepared data set.
        out: folder of the tables of scores, and of `tables.md`.
        fold: (which, of how many): only the images of that test fold.
        first: only so many images, the first; 0 is all.
        subset: how many of them the slow methods see.
        backbone: see `mlfem backbones`.
        weights: a weight file, or "random". Default: the packaged weights.
        methods: names, in the order of the table; empty is all.
        fusions: more rows, with their options: net:weights=FILE.
        metrics: see `mlfem score`.
        batch_size: images in a batch.
    """

    directory: tyro.conf.Positional[Path]
    out: Path
    fold: tuple[int, int] | None = None
    first: int = 0
    subset: int = 60
    backbone: str = "efficientnet_lite0"
    weights: str | Path | None = None
    methods: tuple[str, ...] = ()
    fusions: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("gaze",)
    batch_size: int = 8


def main(config: Config) -> None:
    """Scores what is not scored yet, and writes `tables.md`."""
    names = config.methods or methods_on(load_backbone(config.backbone, config.weights))
    quick = tuple(name for name in names if not is_slow(name)) + config.fusions
    runs = {"quick": (quick, config.first), "subset": ((*names, *config.fusions), config.subset)}
    text = []
    for name, (methods, images) in runs.items():
        folder = config.out / name
        scores.score(_plan(config, folder, methods, images))
        text.append(tables(scores.load(folder)))
    with replacing(config.out / "tables.md") as file:
        file.write("\n".join(text).encode())
    print(config.out / "tables.md")


def is_slow(name: str) -> bool:
    """Whether a method repeats forwards or gradients.

    Example:
        >>> is_slow("grad_cam"), is_slow("lime")
        (False, True)
    """
    return METHODS[name].needs == "forwards" or bool(_REPEATED & {*accepted_options(name)})


def _plan(config: Config, out: Path, methods: tuple[str, ...], images: int) -> scores.Config:
    return scores.Config(
        config.directory,
        out,
        backbone=config.backbone,
        weights=config.weights,
        methods=methods,
        metrics=config.metrics,
        smooth=("none", "gaze"),
        fold=config.fold,
        split=first_images(config.directory, images, config.fold),
        batch_size=config.batch_size,
        map_size=0,
    )


def tables(found: scores.Scores) -> str:
    """The means of each method and metric, raw and blurred; and of each metric how the orders of two methods fare."""
    raw = [metric for metric in found.metrics if f"{metric}@gaze" in found.metrics]
    rows = []
    for place, row in enumerate(found.rows):
        cells = [f"`{row}`" if row in found.methods else row]
        for metric in raw:
            means = [scores.summarize(found.by_metric[name][:, place], resamples=99).mean
                     for name in (metric, f"{metric}@gaze")]  # fmt: skip
            cells.append(" / ".join(f"{mean:.3f}" for mean in means))
        rows.append(cells)
    titles = [scores.metric_of(metric).title for metric in raw]
    lines = [f"{found.settings['images']} images, raw / blurred:", "", markdown_table(["", *titles], rows), ""]
    for metric, title in zip(raw, titles, strict=True):
        pairs = scores.survivals(
            scores.methods_only(found, metric),
            scores.methods_only(found, f"{metric}@gaze"),
            higher_is_better=scores.metric_of(metric).higher_is_better,
        )
        counts = collections.Counter(pair.verdict for pair in pairs)
        lines.append(f"- {title}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.method_tables", lambda: main(tyro.cli(Config))))
