"""The speed and the memory of the input pipeline, and the speed of the density maps.

    python -m eval.benchmarks.reading DIR

reads (decodes, resizes, batches) with each number of worker processes in turns, and prints the medians: images/s, which
say little where others use the machine too; seconds to the first batch, which are those that workers take to start; and
seconds that cores worked, of this process and its workers, on 1,000 images. Then resident memory after each of ten
epochs, and GFDM/s at 480x640. DIR is what `mlfem prepare` wrote, with `--frame 224 224` or without.
"""

import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from eval.benchmarks.common import print_table, resident_mib
from mlfem_jax.cli import run_command
from mlfem_jax.data import Batch, ExampleFormat, batches_per_epoch, open_dataset, read_batches, scan
from mlfem_jax.gaze import gaze_densities


@dataclasses.dataclass(frozen=True)
class Config:
    """The speed and the memory of the input pipeline.

    Attributes:
        directory: the folder of the prepared data set.
        split: name of a split. Default: the only one.
        shape: (height, width) in pixels that photographs are resized to.
        batch_size: examples in a batch.
        workers: numbers of worker processes to time; 0 is threads of this process.
        turns: how often each of them reads everything.
        epochs: read to watch the memory.
        map_shape: (height, width) in pixels of the density maps.
        sigma_px: of the density maps, in pixels.
        seconds: how long density maps are timed.
    """

    directory: tyro.conf.Positional[Path]
    split: str | None = None
    shape: tuple[int, int] = (224, 224)
    batch_size: int = 32
    workers: tuple[int, ...] = (0, 1, 2)
    turns: int = 3
    epochs: int = 10
    map_shape: tuple[int, int] = (480, 640)
    sigma_px: float = 19.0
    seconds: float = 5.0


def main(config: Config) -> None:
    """Prints one table of all measurements."""
    source = open_dataset(config.directory, config.split)
    example_format = ExampleFormat(config.shape, max_fixations=scan(source).max_fixations)
    rows = []

    def batches(epochs: int, workers: int) -> Iterator[Batch]:
        reading = read_batches(
            source, example_format, batch_size=config.batch_size, seed=0, epochs=epochs, workers=workers
        )
        return iter(reading)

    found = {workers: [] for workers in config.workers}
    for _ in range(config.turns):
        for workers in config.workers:
            found[workers].append(timed(batches(1, workers)))
    for workers, turns in found.items():
        names = ("images/s", "s to the first batch", "core-s in 1,000 images")
        for name, value in zip(names, np.median(turns, axis=0), strict=True):
            rows.append({"what": f"{name} to {config.shape}, {workers} workers", "value": float(value)})
    for epoch, mib in enumerate(memory_mib(batches(config.epochs, 0), len(source), config), start=1):
        rows.append({"what": f"MiB resident after epoch {epoch}", "value": mib})
    rate = maps_per_second(next(batches(1, 0)), config)
    rows.append({"what": f"GFDM/s at {config.map_shape}, {example_format.max_fixations} fixations", "value": rate})
    print_table(rows, title=f"{source.dataset_info.name}, {len(source)} images, {jax.devices()[0]}")


def timed(batches: Any) -> tuple[float, float, float]:
    """(Images in a second behind the first batch, seconds to that, seconds that cores worked on 1,000 images)."""
    worked, start = _worked_s(), time.perf_counter()
    first = int(next(batches).mask.sum())
    begun = time.perf_counter()
    images = sum(int(batch.mask.sum()) for batch in batches)
    end = time.perf_counter()
    batches.close()  # only of workers that have ended it is known how long they worked
    return images / (end - begun), begun - start, 1000 * (_worked_s() - worked) / (first + images)


def _worked_s() -> float:
    """Seconds that cores worked for this process and for those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def memory_mib(batches: Iterator[Batch], images: int, config: Config) -> Iterator[float]:
    """Resident memory of this process after each epoch."""
    for _ in range(config.epochs):
        for _ in range(batches_per_epoch(images, config.batch_size)):
            next(batches)
        yield resident_mib()


def maps_per_second(batch: Batch, config: Config) -> float:
    """Density maps in a second on the default device, of one batch's fixations scaled to `map_shape`."""
    scale = np.array(config.map_shape, np.float32) / np.array(config.shape, np.float32)
    fixations, mask = jax.device_put((batch.fixations * scale, batch.fixation_mask))

    def densities() -> jax.Array:
        return gaze_densities(fixations, config.map_shape, sigma_px=config.sigma_px, mask=mask)

    return len(batch.images) * _calls_per_second(densities, config.seconds)


def _calls_per_second(call: Callable[[], jax.Array], seconds: float) -> float:
    call().block_until_ready()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(10):  # queued, so that an accelerator is not idle between two calls
            result = call()
        result.block_until_ready()
        calls += 10
    return calls / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.reading", lambda: main(tyro.cli(Config))))
