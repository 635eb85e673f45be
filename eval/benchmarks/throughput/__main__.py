"""How fast the maps come, as ratios to the same network's bare forward in the same run.

    python -m eval.benchmarks.throughput --out out/throughput.json
    python -m eval.benchmarks.throughput --compare     # also PyTorch and its tools, where installed
    python -m eval.benchmarks.throughput --batch-size 256 --large-batch-size 32 --dtype bfloat16 --batches 4  # a GPU

Images are uint8, on the device already, noise, in all backbones' input size and in `large`; weights are random: speed
does not depend on them. Every number is the median of repeated calls, taken in turns so that a change of the machine's
speed meets all of them, and each call is waited for. Reading starts from JPEG files on disk.
"""

import dataclasses
import importlib.metadata
import json
import os
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import mlfem_jax as mlfem
from eval.benchmarks.throughput.ours import Call, Config, our_calls, traffic
from eval.benchmarks.throughput.reading import reading_rows
from mlfem_jax.compilation import counted_compilations
from mlfem_jax.files import replacing

ENOUGH_S = 60.0


def main(config: Config) -> None:
    """Prints the tables, and writes them as JSON where that is asked for."""
    device, count = jax.devices()[0], jax.local_device_count()
    if config.batch_size % count or config.large_batch_size % count:
        raise ValueError(f"batch_size and large_batch_size: expected multiples of the {count} devices, got {config}")
    rows, read, moved = [], [], []
    for name in config.backbones:
        backbone = mlfem.load_backbone(name, "random").astype(config.dtype)
        measured = measure(backbone, config)
        _print_rows(measured, title=f"{name}, {config.dtype}, {device.device_kind} x {count}")
        rows += measured
        moved += traffic(backbone, config)
        if config.reading:
            read += reading_rows(backbone, config)
    _print_dicts(moved, title="memory traffic of an image, in MB, as XLA's cost analysis counts it")
    _print_dicts(read, title=f"from disk: {config.reading} JPEG files of 480x640")
    if config.out is not None:
        report = {
            "config": dataclasses.asdict(config) | {"out": str(config.out)},
            "device": device.device_kind,
            "platform": device.platform,
            "devices": count,
            "cores": os.cpu_count(),
            "dtype": config.dtype,
            "versions": _versions(),
            "rows": rows,
            "traffic": moved,
            "reading": read,
        }
        with replacing(config.out) as file:
            file.write(json.dumps(report, indent=2).encode())


def measure(backbone: mlfem.Backbone, config: Config) -> list[dict[str, Any]]:
    """One row for each thing that is timed, at both sizes."""
    sizes = [(backbone.input_size, config.batch_size)]
    if config.large_batch_size:
        sizes.append((config.large, config.large_batch_size))
    rows = []
    for size, batch_size in sizes:
        calls = our_calls(backbone, size, batch_size, config)
        if config.compare and size == backbone.input_size:
            from eval.benchmarks.throughput.peers import peer_calls

            calls |= peer_calls(backbone, batch_size)
        timings = time_in_turns(calls, config.repeats)
        bare = timings["bare forward"].images_per_s
        about = {"backbone": backbone.name, "size": size, "batch_size": batch_size}
        for what, timing in timings.items():
            rows.append(about | {"what": what, "ratio": timing.images_per_s / bare} | dataclasses.asdict(timing))
    return rows


@dataclasses.dataclass(frozen=True)
class Timing:
    """Of one kind of call.

    Attributes:
        images_per_s: by the median of all calls but the first.
        first_call_s: seconds of the first, compilation included.
        compilations: functions compiled in the first call.
        compilations_later: in all others.
        result_bytes_per_image: what leaves the device when the results are asked for.
    """

    images_per_s: float
    first_call_s: float
    compilations: int
    compilations_later: int
    result_bytes_per_image: float


def time_in_turns(calls: Mapping[str, Call], repeats: int) -> dict[str, Timing]:
    """Times each call once for its compilation, and then all in turns; a slow one until `ENOUGH_S` are spent on it."""

    def timed(call: Call) -> tuple[float, int, int]:
        with counted_compilations() as names:
            start = time.perf_counter()
            result = jax.block_until_ready(call.run())
            seconds = time.perf_counter() - start
        return seconds, len(names), sum(leaf.nbytes for leaf in jax.tree.leaves(result))

    first = {what: timed(call) for what, call in calls.items()}
    later: dict[str, list[tuple[float, int, int]]] = {what: [] for what in calls}
    for _ in range(repeats):
        for what, call in calls.items():
            if sum(seconds for seconds, *_ in later[what]) < ENOUGH_S:
                later[what].append(timed(call))
    return {
        what: Timing(
            images_per_s=call.images / float(np.median([seconds for seconds, *_ in later[what]])),
            first_call_s=first[what][0],
            compilations=first[what][1],
            compilations_later=sum(compiled for _, compiled, _ in later[what]),
            result_bytes_per_image=first[what][2] / call.returned,
        )
        for what, call in calls.items()
    }


def _versions() -> dict[str, str]:
    wanted = ("jax", "jaxlib", "flax", "numpy", "torch", "torchvision", "grad-cam", "captum")
    there = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in wanted if name in there}


def _print_rows(rows: list[dict[str, Any]], *, title: str) -> None:
    headings = ("size", "what", "images/s", "ratio", "first, s", "compiled", "later", "bytes/image")
    table = Table(*headings, title=title)
    for row in rows:
        table.add_row(
            "x".join(map(str, row["size"])),
            row["what"],
            f"{row['images_per_s']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['first_call_s']:.1f}",
            str(row["compilations"]),
            str(row["compilations_later"]),
            f"{row['result_bytes_per_image']:,.0f}",
        )
    Console(width=120).print(table)


def _print_dicts(rows: list[dict[str, Any]], *, title: str) -> None:
    if rows:
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
        Console(width=120).print(table)


if __name__ == "__main__":
    main(tyro.cli(Config))
