"""Insertion and deletion in few steps, for networks whose forward pass is dear: a table of methods, with intervals.

    python -m eval.experiments.few_steps data/crowd --backbone dinov2_vits14 --weights out/head --fold 0 5 --images 12

`mlfem score --metrics insertion deletion` takes 33 forward passes for each map and metric; this takes `--steps` and
one. The class is the one that the network predicts.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from eval.experiments.fusion_tables import with_interval
from mlfem_jax import faithfulness, load_backbone, map_batches, method, scores
from mlfem_jax.backbones import Forward
from mlfem_jax.cli import run_command
from mlfem_jax.data import ExampleFormat, fold_positions, open_dataset, read_batches, scan
from mlfem_jax.report import markdown_table


@dataclasses.dataclass(frozen=True)
class Config:
    """Insertion and deletion in few steps.

    Attributes:
        directory: the prepared data set.
        backbone: see `mlfem backbones`.
        weights: a weight file, the folder of a trained classifier, or "random". Default: the packaged weights.
        fold: (which, of how many): only the images of that test fold.
        images: how many of them, the first.
        methods: names.
        steps: of the curves.
        batch_size: images in a batch.
    """

    directory: tyro.conf.Positional[Path]
    backbone: str = "efficientnet_lite0"
    weights: str | Path | None = None
    fold: tuple[int, int] | None = None
    images: int = 24
    methods: tuple[str, ...] = ("grad_cam", "fem", "add", "center", "random")
    steps: int = 8
    batch_size: int = 4


def main(config: Config) -> None:
    """Prints the table."""
    backbone, source = load_backbone(config.backbone, config.weights), open_dataset(config.directory)
    index = scan(source)
    held = np.arange(len(source)) if config.fold is None else fold_positions(index.groups, config.fold)
    positions = held[: config.images]
    form = ExampleFormat(backbone.photo_size, index.max_fixations)
    (batch,) = read_batches(source, form, positions=positions, batch_size=len(positions))
    found = list(map_batches(backbone, batch.images, maps_of(config.methods), batch_size=config.batch_size))
    rows = []
    for name in config.methods:
        values = [[faithfulness.insertion_auc(backbone, photo, one, steps=config.steps),
                   faithfulness.deletion_auc(backbone, photo, one, steps=config.steps)]
                  for photo, one in zip(batch.images, (maps[name] for maps in found), strict=True)]  # fmt: skip
        summaries = map(scores.summarize, np.array(values, np.float32).T)
        rows.append([f"`{name}`", *map(with_interval, summaries)])
        Console().print(*rows[-1], highlight=False, soft_wrap=True)
    print(
        f"{len(positions)} images, {config.steps} steps",
        markdown_table(["", "Insertion", "Deletion"], rows),
        sep="\n\n",
    )


def maps_of(names: tuple[str, ...]) -> Callable[[Forward], dict[str, Any]]:
    """All methods from one forward pass."""
    chosen = {name: method(name) for name in names}
    return lambda forward: {name: one(forward) for name, one in chosen.items()}


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.few_steps", lambda: main(tyro.cli(Config))))
