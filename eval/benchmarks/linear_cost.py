"""What scoring costs as the number of images grows: time, and the memory of the process.

    python -m eval.benchmarks.linear_cost data/osie --out out/linear_cost --sizes 100 1000 10000

The data set is repeated, under other ids, until there are enough images. Each size is run in a process of its own, and
compiles before its time is taken.
"""

import dataclasses
import functools
import multiprocessing
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro

from eval.benchmarks.common import print_table, seconds_of, write_json
from mlfem_jax.backbones import load_backbone
from mlfem_jax.cli import run_command
from mlfem_jax.data import Source, open_dataset
from mlfem_jax.scores import Config as ScoreConfig, score_records


@dataclasses.dataclass(frozen=True)
class Config:
    """What scoring costs as the number of images grows.

    Attributes:
        directory: the folder of a prepared data set.
        out: folder of the scores and of `linear_cost.json`.
        sizes: numbers of images.
        methods: see `mlfem score`.
        metrics: see `mlfem score`.
        batch_size: see `mlfem score`.
        workers: see `mlfem score`.
    """

    directory: tyro.conf.Positional[Path]
    out: Path
    sizes: tuple[int, ...] = (100, 1000, 10_000)
    methods: tuple[str, ...] = ("fem", "add", "top", "grad_cam", "center")
    metrics: tuple[str, ...] = ("pcc", "similarity", "nss", "auc_judd")
    batch_size: int = 16
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class Repeated:
    """The records of a data set again and again, each under an id of its own.

    Attributes:
        source: the data set.
        count: of records.
    """

    source: Source
    count: int

    def __len__(self) -> int:
        """`count`."""
        return self.count

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """The record at an index."""
        record = self.source[index % len(self.source)]
        return record | {"id": f"{index:06d}"}


def main(config: Config) -> None:
    """Prints the table, and writes it as JSON."""
    rows = []
    for size in config.sizes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (config, size)))
    print_table(rows, title="mlfem score")
    write_json(config.out / "linear_cost.json", config, rows=rows)


def measure(config: Config, size: int) -> dict[str, float]:
    """Seconds, compilation left out, and peak memory of scoring `size` images in this process."""
    source, backbone = open_dataset(config.directory), load_backbone("efficientnet_lite0")
    dataset = dict(source.dataset_info.metadata)

    def run(count: int, folder: str) -> None:
        plan = ScoreConfig(
            config.directory,
            config.out / folder,
            methods=config.methods,
            metrics=config.metrics,
            batch_size=config.batch_size,
            workers=config.workers,
        )
        score_records(plan, Repeated(source, count), dataset, backbone)

    run(min(size, len(source)), f"warm_{size}")  # compiles, and for the longest list of fixations
    seconds = seconds_of(functools.partial(run, size, f"scores_{size}"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images": size, "seconds": seconds, "images_per_s": size / seconds, "peak_mib": peak}


if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.linear_cost", lambda: main(tyro.cli(Config))))
