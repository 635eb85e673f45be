"""A learned fusion against people's gaze, each image by a network that has not seen it, with every metric.

    python -m eval.experiments.gaze_folds data/osie --out out/folds --frame 384 512 --beside add fem center

For each fold `mlfem train fusion` on the others, then `mlfem score` on it, of the fusion and of the methods beside it;
what is finished in `--out` is kept, and a second call goes on from there. Prints the means over all images with 95 %
bootstrap intervals, and writes them beside.
"""

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from eval.experiments.fusion_tables import with_interval
from mlfem_jax import scores
from mlfem_jax.cli import run_command
from mlfem_jax.files import replacing
from mlfem_jax.report import markdown_table
from mlfem_jax.training import fusion

METRICS = ("pcc", "similarity", "nss", "auc_judd", "auc_shuffled", "information_gain")


@dataclasses.dataclass(frozen=True)
class Config:
    """Cross-validation of a learned fusion with every metric.

    Attributes:
        directory: the prepared data set.
        out: folder of the folds' runs and scores, and of the table.
        cache: see `mlfem train fusion`.
        backbone: see `mlfem train fusion`.
        architecture: see `mlfem train fusion`.
        layers: see `mlfem train fusion`.
        shrink: see `mlfem train fusion`.
        frame: see `mlfem train fusion`.
        folds: number of folds, by hashed id.
        only: these folds alone. Default: all.
        beside: other methods, which are scored on the same images.
        metrics: see `mlfem score`.
        recipe: how the fusion is trained.
    """

    directory: tyro.conf.Positional[Path]
    out: Path
    cache: Path | None = None
    backbone: str = "efficientnet_lite0"
    architecture: Literal["channels", "linear", "unet", "net"] = "channels"
    layers: tuple[str, ...] | None = None
    shrink: int | None = None
    frame: tuple[int, int] | None = None
    folds: int = 5
    only: tuple[int, ...] | None = None
    beside: tuple[str, ...] = ()
    metrics: tuple[str, ...] = METRICS
    recipe: fusion.Recipe = dataclasses.field(default_factory=fusion.Recipe)


def main(config: Config) -> None:
    """Prints the table, and writes it."""
    found = [scored(config, number) for number in config.only or range(config.folds)]
    names, metrics = (config.architecture, *config.beside), found[0].metrics  # each, where a group was asked for
    rows = []
    for place, name in enumerate(names):
        columns = [np.concatenate([of_fold.by_metric[metric][:, place] for of_fold in found])
                   for metric in metrics]  # fmt: skip
        rows.append([f"`{name}`", *(with_interval(scores.summarize(column)) for column in columns)])
    table = markdown_table(["", *metrics], rows)
    with replacing(config.out / "table.md") as file:
        file.write(f"{table}\n".encode())
    print(f"{config.directory.name}, {sum(len(of_fold.first) for of_fold in found)} images", table, sep="\n\n")


def scored(config: Config, number: int) -> scores.Scores:
    """The scores of one fold, by the fusion that the others trained, and by the methods beside it."""
    same = {"backbone": config.backbone, "frame": config.frame, "fold": (number, config.folds)}
    run, out = config.out / f"fold{number}", config.out / f"scores{number}"
    with contextlib.redirect_stdout(sys.stderr):
        fusion.train_fusion(
            fusion.Config(config.directory, run, architecture=config.architecture, layers=config.layers,
                          shrink=config.shrink, cache=config.cache, validation=0.0, recipe=config.recipe, **same)
        )  # fmt: skip
        learned = f"net:weights={run / 'fusion.safetensors'}"
        scores.score(
            scores.Config(config.directory, out, methods=(learned, *config.beside), metrics=config.metrics,
                          humans=False, map_size=0, **same)
        )  # fmt: skip
    return scores.load(out)


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.gaze_folds", lambda: main(tyro.cli(Config))))
