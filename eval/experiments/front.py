"""The front between plausible and faithful: FEM's channel weights learned from gaze, from the network, or from both.

    python -m eval.experiments.front data/osie --transfer data/crowd --out out/front
    python -m eval.experiments.front data/osie --out out/try --shares 0 1 --images 4 --recipe.epochs 1

The same additive fusion is trained on the training folds with several shares of its loss asking for faithfulness
(`mlfem train fusion --recipe.faithful`), the rest for gaze. All of them are scored with methods of the registry, on the
first images of the test fold and of the other data set: how well a map agrees with gaze (PCC), and how much the network
depends on it (the area between the perturbation curves, which the training asks for, and insertion, which it does not).
Writes a table and a picture of each data set; what is finished is kept in `--out`.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

import matplotlib.figure
import numpy as np
import tyro

from eval.experiments.fusion_tables import with_interval
from eval.experiments.splits import first_images
from mlfem_jax import scores
from mlfem_jax.cli import run_command
from mlfem_jax.files import replacing
from mlfem_jax.report import markdown_table, save_figure
from mlfem_jax.training import fusion
from mlfem_jax.training.fusion import Recipe

METHODS = (
    "grad_cam",
    "layer_cam",
    "add",
    "fem",
    "saliency",
    "lrp",
    "net:architecture=unet",
    "edge",
    "center",
    "random",
)
_METRICS = ("pcc", "abpc", "insertion")


@dataclasses.dataclass(frozen=True)
class Config:
    """The front between plausible and faithful.

    Attributes:
        directory: the prepared data set that is trained on.
        out: folder of fusions, tables and pictures.
        transfer: another one, to score the same fusions on.
        shares: of the loss that ask for faithfulness.
        architecture: "linear", the additive one, or "channels", with a U-Net behind the weights.
        fold: (which, of how many) is not trained on, and scored.
        images: scored of each data set, the first.
        methods: others to score beside.
        backbone: see `mlfem backbones`.
        cache: see `mlfem train fusion`.
        recipe: of the training; `faithful` is set.
    """

    directory: tyro.conf.Positional[Path]
    out: Path
    transfer: Path | None = None
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    architecture: Literal["linear", "channels"] = "linear"
    fold: tuple[int, int] = (0, 5)
    images: int = 24
    methods: tuple[str, ...] = METHODS
    backbone: str = "efficientnet_lite0"
    cache: Path | None = None
    recipe: Recipe = dataclasses.field(default_factory=lambda: Recipe(epochs=4, batch_size=8, learning_rate=8e-3))


def main(config: Config) -> None:
    """Trains, scores and draws what is not there yet."""
    files = [_trained(config, share) for share in config.shares]
    folds = {config.directory: config.fold} | ({config.transfer: None} if config.transfer else {})
    for directory, fold in folds.items():
        found = _scored(config, directory, fold, files)
        titles = [scores.metric_of(metric).title for metric in _METRICS]
        means = {name: _means(found, row) for name, row in _rows(config, files).items()}
        cells = [[name, *map(with_interval, row)] for name, row in means.items()]
        text = f"{directory.name}, {found.settings['images']} images\n\n{markdown_table(['', *titles], cells)}\n"
        with replacing(config.out / f"{directory.name}.md") as file:
            file.write(text.encode())
        save_figure(config.out / f"{directory.name}.png", picture(means, config.shares, titles[:2]))
        print(text)


def _trained(config: Config, share: float) -> Path:
    """The file of the fusion; its training goes on where it stopped."""
    out = config.out / f"{config.architecture}_{share:g}"
    recipe = dataclasses.replace(config.recipe, faithful=share)
    same = {"architecture": config.architecture, "backbone": config.backbone, "cache": config.cache}
    fusion.train_fusion(fusion.Config(config.directory, out, fold=config.fold, validation=0.0, recipe=recipe, **same))
    return out / "fusion.safetensors"


def _scored(config: Config, directory: Path, fold: tuple[int, int] | None, files: list[Path]) -> scores.Scores:
    folder = config.out / f"scores_{directory.name}"
    scores.score(scores.Config(
        directory, folder, backbone=config.backbone, methods=(*config.methods, *map(_method, files)), metrics=_METRICS,
        fold=fold, split=first_images(directory, config.images, fold), humans=False, map_size=0, batch_size=4,
    ))  # fmt: skip
    return scores.load(folder)


def _method(file: Path) -> str:
    return f"net:weights={file}"


def _rows(config: Config, files: list[Path]) -> dict[str, str]:
    """Name in the table to row of the scores."""
    learned = {f"{config.architecture}, {share:.0%} faithful": _method(file)
               for share, file in zip(config.shares, files, strict=True)}  # fmt: skip
    return learned | {name: name for name in config.methods}


def _means(found: scores.Scores, row: str) -> list[scores.Summary]:
    place = found.rows.index(row)
    return [scores.summarize(found.by_metric[metric][:, place]) for metric in _METRICS]


def picture(
    means: dict[str, list[scores.Summary]], shares: tuple[float, ...], titles: list[str]
) -> matplotlib.figure.Figure:
    """Plausible against faithful: the trained fusions as a curve, everything else as points."""
    figure = matplotlib.figure.Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    places = {name: (row[0].mean, row[1].mean) for name, row in means.items()}
    curve = np.array(list(places.values())[: len(shares)])
    axes.plot(*curve.T, "o-", color="C3", label="trained for gaze and for the network")
    for share, place in zip(shares, curve, strict=True):
        axes.annotate(f"{share:.0%}", place, xytext=(4, 6), textcoords="offset points", color="C3")
    others = sorted(list(places.items())[len(shares) :], key=lambda item: item[1])
    for number, (name, place) in enumerate(others):
        axes.plot(*place, "o", color="C0", markersize=4)
        name = name.removeprefix("net:architecture=")
        offset = (4, 4 if number % 2 else -9)  # neighbors' names above and below
        axes.annotate(name, place, xytext=offset, textcoords="offset points", fontsize=8)
    axes.margins(x=0.12, y=0.08)
    axes.set(xlabel=f"plausible: {titles[0]} with people's gaze", ylabel=f"faithful: {titles[1]}")
    axes.legend(loc="lower right")
    return figure


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.front", lambda: main(tyro.cli(Config))))
