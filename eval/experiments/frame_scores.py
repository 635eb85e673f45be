"""Methods against human gaze in the photographs' own proportions, at any number of pixels.

    python -m eval.experiments.frame_scores data/osie --frame 384 512 --fold 0 5 --methods fem add net

Each photograph is read at about as many pixels as the frame has, in its own proportions, landscape or portrait, and the
map is compared there. Prints mean PCC, SIM and NSS of each method with 95 % bootstrap intervals over images, and, as a
control, the PCC with the gaze on the next image of the batch.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mlfem_jax.attribution import Method
from mlfem_jax.backbones import Backbone, forward_pass, load_backbone
from mlfem_jax.cli import run_command
from mlfem_jax.data import Batch, ExampleFormat, Source, fold_positions, open_dataset, read_batches, scan
from mlfem_jax.gaze import gaze_densities
from mlfem_jax.metrics import nss, pcc, similarity
from mlfem_jax.photos import own_frame
from mlfem_jax.report import write_csv
from mlfem_jax.scores import parse_method, summarize
from mlfem_jax.training import real_examples


@dataclasses.dataclass(frozen=True)
class Config:
    """Methods against human gaze in the photographs' own proportions.

    Attributes:
        directory: the folder of the prepared data set.
        frame: height and width whose number of pixels each photograph gets. Default: the network's input size, whatever
            the photograph's proportions.
        methods: names, each with its options if need be: net:architecture=linear.
        backbone: see `mlfem backbones`.
        weights: a weight file, or "random". Default: the packaged weights.
        split: name of a split, or a slice of one.
        fold: (i, k) scores fold i of k alone, counted from 0.
        batch_size: images in a forward pass.
        out: a CSV file for the scores of every image. Default: none is written.
    """

    directory: tyro.conf.Positional[Path]
    frame: tuple[int, int] | None = None
    methods: tuple[str, ...] = ("fem", "add", "net")
    backbone: str = "efficientnet_lite0"
    weights: str | None = None
    split: str | None = None
    fold: tuple[int, int] | None = None
    batch_size: int = 8
    out: Path | None = None


def main(config: Config) -> None:
    """Prints a row for each method."""
    backbone, source = load_backbone(config.backbone, config.weights), open_dataset(config.directory, config.split)
    methods = tuple(parse_method(name) for name in config.methods)
    sigma_px = source.dataset_info.metadata["sigma_px"]
    score = functools.partial(jax.jit(scores, static_argnames=("methods",)), backbone, methods=methods)
    batches = read(config, source, backbone)
    found = real_examples(score(_fields(batch, sigma_px)) | {"ids": batch.ids, "mask": batch.mask} for batch in batches)
    table = Table("method", "PCC", "95 %", "SIM", "NSS", "PCC with another image's gaze", title=str(config.directory))
    for row, name in enumerate(config.methods):
        values = {key: summarize(found[key][:, row].astype(np.float64)) for key in ("pcc", "sim", "nss", "other")}
        interval = f"{values['pcc'].low:.3f} to {values['pcc'].high:.3f}"
        means = [f"{values[key].mean:.3f}" for key in ("sim", "nss", "other")]
        table.add_row(name, f"{values['pcc'].mean:.3f}", interval, *means)
    Console().print(table)
    if config.out is not None:
        lines = [(image, name, *(float(found[key][place, row]) for key in ("pcc", "sim", "nss", "other")))
                 for place, image in enumerate(found["ids"]) for row, name in enumerate(config.methods)]  # fmt: skip
        write_csv(config.out, ("id", "method", "pcc", "sim", "nss", "other"), lines)


def read(config: Config, source: Source, backbone: Backbone) -> Iterator[Batch]:
    """Batches, each of photographs of one frame."""
    index = scan(source)
    positions = np.arange(len(source)) if config.fold is None else fold_positions(index.ids, config.fold)
    groups: dict[tuple[int, int], list[int]] = {}
    for position in positions.tolist():
        height, width = (int(side) for side in source[position]["size"])
        frame = backbone.input_size if config.frame is None else own_frame((height, width), config.frame)
        groups.setdefault(frame, []).append(position)
    for frame, group in groups.items():
        example_format = ExampleFormat(frame, max_fixations=index.max_fixations)
        batches = read_batches(source, example_format, batch_size=config.batch_size, positions=np.array(group))
        whole = -(-len(group) // config.batch_size)
        yield from track(batches, f"{frame[0]} x {frame[1]}", total=whole, console=Console(stderr=True))


def _fields(batch: Batch, sigma_px: float) -> dict[str, np.ndarray]:
    return {"images": batch.images, "fixations": batch.fixations, "fixation_mask": batch.fixation_mask,
            "sigma_px": sigma_px * batch.scale, "real": batch.mask}  # fmt: skip


def scores(backbone: Backbone, batch: Mapping[str, Any], *, methods: tuple[Method, ...]) -> dict[str, jax.Array]:
    """PCC, SIM and NSS (N, methods), and the PCC with the gaze on the next image."""
    forward = forward_pass(backbone, batch["images"])
    fixations, mask = batch["fixations"], batch["fixation_mask"]
    truth = gaze_densities(fixations, forward.size, sigma_px=batch["sigma_px"], mask=mask)
    pairs = (batch["real"] & jnp.roll(batch["real"], -1))[:, None]
    maps = jnp.stack([method(forward) for method in methods], axis=1)

    def against(metric: Any, truth: Any, **fields: Any) -> jax.Array:
        return jax.vmap(lambda rows, one, more: jax.vmap(lambda row: metric(row, one, **more))(rows))(
            maps, truth, fields
        )

    return {"pcc": against(pcc, truth), "sim": against(similarity, truth), "nss": against(nss, fixations, mask=mask),
            "other": jnp.where(pairs, against(pcc, jnp.roll(truth, -1, axis=0)), jnp.nan)}  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.frame_scores", lambda: main(tyro.cli(Config))))
