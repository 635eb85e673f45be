"""Maps of a whole data set as files, in the form in which benchmarks take submissions: what `mlfem export` does."""

import dataclasses
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress

from mlfem_jax.attribution import Method
from mlfem_jax.backbones import load_backbone
from mlfem_jax.data import decode_photo, fold_positions, open_dataset, record_id, scan, write_map
from mlfem_jax.engine import BatchSize, map_batches
from mlfem_jax.files import printable, refuse_foreign, writing
from mlfem_jax.photos import ResizeRule, place_map
from mlfem_jax.scores import parse_method


@dataclasses.dataclass(frozen=True)
class Config:
    """Maps of a method over a data set: one file for each photograph, of its name and size, as the MIT benchmark asks.

    Attributes:
        directory: the folder of the prepared data set.
        out: the folder to write.
        method: a name with its options if need be, as `mlfem score` takes it.
        backbone: see `mlfem backbones`.
        weights: a weight file, or "random". Default: the packaged weights.
        form: png, gray of 8 bits; or npy, float32.
        split: name of a split, or a slice of one. Default: the only split.
        fold: (i, k) takes fold i of k alone.
        resize: how a photograph gets to the network's input size.
        batch_size: images in a forward pass.
    """

    directory: tyro.conf.Positional[Path]
    out: Path
    method: str = "add"
    backbone: str = "efficientnet_lite0"
    weights: str | Path | None = None
    form: Literal["png", "npy"] = "png"
    split: str | None = None
    fold: tuple[int, int] | None = None
    resize: ResizeRule = "stretch"
    batch_size: BatchSize = 16


def export(config: Annotated[Config, tyro.conf.arg(name="")]) -> None:
    """Writes the maps of a method over a prepared data set, one file for each photograph, of its name and size.

    Args:
        config: which maps, and where they go.

    Raises:
        ValueError: an unknown method, network or fold; another process writes to `out`.
        OSError: a file of somebody else's would be written over.
    """
    source = open_dataset(config.directory, config.split)
    index = scan(source)
    positions = np.arange(len(source)) if config.fold is None else fold_positions(index.groups, config.fold)
    records = [source[int(position)] for position in positions]

    def photos() -> Iterator[np.ndarray]:
        yield from (decode_photo(record) for record in records)

    method = parse_method(config.method)
    if not isinstance(method, Method):
        raise ValueError(f"method: expected a method of ours, got {config.method!r}")
    look = functools.partial(map_batches, batch_size=config.batch_size, resize=config.resize)
    maps = look(load_backbone(config.backbone, config.weights), photos(), method)
    ids = [record_id(record) for record in records]
    with writing(config.out):
        refuse_foreign(config.out, [f"{image_id}.{config.form}" for image_id in ids])
        paired = zip(records, ids, maps, strict=True)
        with Progress(console=Console(file=sys.stderr)) as bar:  # which an error ends, before it is told
            for record, image_id, importance in bar.track(paired, len(ids), description="maps"):
                shape = int(record["size"][0]), int(record["size"][1])
                write_map(config.out, image_id, place_map(importance, shape, rule=config.resize), form=config.form)
    print(printable(f"{config.out}: {len(ids)} maps of {config.method}"))
