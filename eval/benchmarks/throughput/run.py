"""How fast the maps come, as ratios to the same network's bare forward in the same run.

    python -m eval.benchmarks.throughput --out out/throughput.json
    python -m eval.benchmarks.throughput --compare     # also PyTorch and its tools, where installed
    python -m eval.benchmarks.throughput --batch-size 256 --large-batch-size 32 --dtype bfloat16 --batches 4  # a GPU

Images are uint8, on the device already, noise, in all backbones' input size and in `large`; weights are random: speed
does not depend on them. Every number is the median of repeated calls, taken in turns so that a change of the machine's
speed meets all of them, and each call is waited for. Reading starts from JPEG files on disk.
"""

from typing import Any

import jax

import mlfem_jax as mlfem
from eval.benchmarks.common import print_table, time_in_turns, write_json
from eval.benchmarks.throughput.ours import Call, Config, our_calls, traffic
from eval.benchmarks.throughput.reading import reading_rows

_SHOWN = ("size", "what", "images_per_s", "ratio", "first_s", "compilations", "compilations_later", "bytes_per_image")


def main(config: Config) -> None:
    """Prints the tables, and writes them as JSON where that is asked for."""
    device, count = jax.devices()[0], jax.local_device_count()
    if config.batch_size % count or config.large_batch_size % count:
        raise ValueError(f"batch_size and large_batch_size: expected multiples of the {count} devices, got {config}")
    rows, read, moved = [], [], []
    for name in config.backbones:
        backbone = mlfem.load_backbone(name, "random").astype(config.dtype)
        measured = measure(backbone, config)
        print_table(measured, columns=_SHOWN, title=f"{name}, {config.dtype}, {device.device_kind} x {count}")
        rows += measured
        moved += traffic(backbone, config)
        if config.reading:
            read += reading_rows(backbone, config)
    print_table(moved, title="memory traffic of an image, in MB, as XLA's cost analysis counts it")
    print_table(read, title=f"from disk: {config.reading} JPEG files of 480x640")
    write_json(config.out, config, dtype=config.dtype, rows=rows, traffic=moved, reading=read)


def measure(backbone: mlfem.Backbone, config: Config) -> list[dict[str, Any]]:
    """One row for each thing that is timed, at both sizes."""
    sizes = [(backbone.photo_size, config.batch_size)]
    if config.large_batch_size:
        sizes.append((config.large, config.large_batch_size))
    rows = []
    for size, batch_size in sizes:
        calls = our_calls(backbone, size, batch_size, config)
        if config.compare and size == backbone.photo_size:
            from eval.benchmarks.throughput.peers import peer_calls

            calls |= peer_calls(backbone, batch_size)
        about = {"backbone": backbone.name, "size": size, "batch_size": batch_size}
        rows += [about | row for row in timed_rows(calls, config.repeats)]
    return rows


def timed_rows(calls: dict[str, Call], repeats: int) -> list[dict[str, Any]]:
    """Speed of each call, as a ratio to the first one's too, and what it compiles and returns."""
    timings = time_in_turns({what: call.run for what, call in calls.items()}, repeats)
    speeds = {what: call.images / timings[what].seconds for what, call in calls.items()}
    bare = next(iter(speeds.values()))
    return [
        {
            "what": what,
            "ratio": speeds[what] / bare,
            "images_per_s": speeds[what],
            "first_s": timing.first_s,
            "compilations": timing.compilations,
            "compilations_later": timing.compilations_later,
            "bytes_per_image": timing.result_bytes / calls[what].returned,
        }
        for what, timing in timings.items()
    ]
