"""The speed and the memory of the input pipeline, and the speed of the density maps.

    python -m eval.benchmarks.reading DIR

prints images/s (read, decoded, resized, batched) for each number of worker processes, and for each second that a core
worked on them, whatever else it did; resident memory after each of ten epochs, and GFDM/s at 480x640. DIR is what
`mlfem prepare` wrote, with `--frame 224 224` or without.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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
        workers: numbers of worker processes to time; 0 is one thread of this process.
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

    rate = images_per_second(batches(1, 0), time.process_time)
    rows.append({"what": f"images in a core's second to {config.shape}", "value": rate})
    for workers in config.workers:
        rate = images_per_second(batches(1, workers))
        rows.append({"what": f"images/s to {config.shape}, {workers} workers", "value": rate})
    for epoch, mib in enumerate(memory_mib(batches(config.epochs, 0), len(source), config), start=1):
        rows.append({"what": f"MiB resident after epoch {epoch}", "value": mib})
    rate = maps_per_second(next(batches(1, 0)), config)
    rows.append({"what": f"GFDM/s at {config.map_shape}, {example_format.max_fixations} fixations", "value": rate})
    print_table(rows, title=f"{source.dataset_info.name}, {len(source)} images, {jax.devices()[0]}")


def images_per_second(batches: Iterator[Batch], clock: Callable[[], float] = time.perf_counter) -> float:
    """Images in a second, from the first batch on: the time to start the workers is left out."""
    next(batches)
    start = clock()
    images = sum(int(batch.mask.sum()) for batch in batches)
    return images / (clock() - start)


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
