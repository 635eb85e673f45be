"""Whether memory stays flat over a long run: an endless iterator of photographs, explained one after the other.

    python -m eval.benchmarks.long_run --images 20000

prints at every step the images done, images/s, the resident memory of this process, the bytes of all arrays on the
device, and how many functions were compiled since the start.
"""

import dataclasses
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

import mlfem_jax as mlfem
from eval.benchmarks.common import print_row, resident_mib, write_json
from mlfem_jax.cli import run_command
from mlfem_jax.compilation import counted_compilations
from mlfem_jax.engine import BatchSize


@dataclasses.dataclass(frozen=True)
class Config:
    """Whether memory stays flat over a long run.

    Attributes:
        images: to explain.
        steps: lines to print.
        backbone: network, with random weights.
        method: see `mlfem methods`.
        photo: (height, width) in pixels of the photographs, which are resized on the host.
        batch_size: images in a forward pass, or auto.
        dtype: of the forward pass.
        out: JSON file to write.
    """

    images: int = 20_000
    steps: int = 20
    backbone: str = "efficientnet_lite0"
    method: str = "add"
    photo: tuple[int, int] = (240, 320)
    batch_size: BatchSize = 16
    dtype: Literal["float32", "bfloat16"] = "float32"
    out: Path | None = None


def main(config: Config) -> None:
    """Prints a line a step, and writes them as JSON where that is asked for."""
    lines = []
    for line in watch(config):
        lines.append(line)
        print_row(line)
    write_json(config.out, config, steps=lines)


def watch(config: Config) -> Iterator[dict[str, Any]]:
    """One line for each step, as a dict."""
    backbone = mlfem.load_backbone(config.backbone, "random")
    start, done = time.perf_counter(), 0
    with counted_compilations() as names:
        maps = mlfem.explain(
            backbone, _photographs(config.photo), method=config.method, batch_size=config.batch_size, dtype=config.dtype
        )
        for step in range(config.steps):
            for _ in itertools.islice(maps, config.images * (step + 1) // config.steps - done):
                done += 1
            yield {
                "images": done,
                "images_per_s": done / (time.perf_counter() - start),
                "resident_mib": resident_mib(),
                "device_mib": sum(array.nbytes for array in jax.live_arrays()) / 2**20,
                "batch_functions": sum("run_batch" in name for name in names),
                "all_functions": len(names),
            }


def _photographs(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """A new photograph each time, of noise, without end."""
    rng = np.random.default_rng(0)
    while True:
        yield rng.integers(0, 256, (*size, 3), dtype=np.uint8)


if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.long_run", lambda: main(tyro.cli(Config))))
