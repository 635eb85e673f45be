"""What the benchmarks share: calls timed in turns, what they ran on, and how rows are shown and kept."""

import dataclasses
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.table import Table

from mlfem_jax.compilation import counted_compilations
from mlfem_jax.files import replacing

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "torchvision", "captum", "grad-cam")


@dataclasses.dataclass(frozen=True)
class Timing:
    """Of a call that was repeated.

    Attributes:
        seconds: the median of all calls but the first.
        first_s: seconds of the first, compilation included.
        compilations: functions compiled in the first.
        compilations_later: in all others.
        result_bytes: size of what the first returned.
    """

    seconds: float
    first_s: float
    compilations: int
    compilations_later: int
    result_bytes: int


def time_in_turns(calls: Mapping[str, Callable[[], Any]], repeats: int, *, limit_s: float = 60.0) -> dict[str, Timing]:
    """Times each call once for its compilation, and then all in turns: a change of the machine's speed meets all.

    Args:
        calls: name to call, which is waited for.
        repeats: of each, but for the first.
        limit_s: a call is not repeated once it has taken this many seconds, so a slow one is repeated once.
    """
    first = {name: _timed(call) for name, call in calls.items()}
    later: dict[str, list[tuple[float, int, int]]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            if sum(seconds for seconds, *_ in later[name]) < limit_s:
                later[name].append(_timed(call))
    return {
        name: Timing(
            seconds=float(np.median([seconds for seconds, *_ in later[name]])),
            first_s=seconds,
            compilations=compiled,
            compilations_later=sum(again for _, again, _ in later[name]),
            result_bytes=size,
        )
        for name, (seconds, compiled, size) in first.items()
    }


def _timed(call: Callable[[], Any]) -> tuple[float, int, int]:
    """Seconds of a call, functions compiled in it, and bytes of its result."""
    with counted_compilations() as names:
        start = time.perf_counter()
        result = jax.block_until_ready(call())
        seconds = time.perf_counter() - start
    return seconds, len(names), sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(result))


def seconds_of(call: Callable[[], Any]) -> float:
    """How long one call takes, waited for."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def resident_mib() -> float:
    """Memory of this process that is in use now, in MiB; Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def noise(*shape: int) -> UInt8[np.ndarray, "..."]:
    """Pixels of noise, the same each time: no speed here depends on what a photograph shows."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def print_row(row: Mapping[str, Any]) -> None:
    """Prints a row as soon as it is measured."""
    print("  ".join(f"{name} {_shown(value)}" for name, value in row.items()), flush=True)


def print_table(rows: Sequence[Mapping[str, Any]], *, title: str, columns: Sequence[str] | None = None) -> None:
    """Prints rows as a table, all their columns or only some; nothing where there are no rows."""
    if not rows:
        return
    columns = columns or tuple(rows[0])
    table = Table(*(name.replace("_", " ") for name in columns), title=title)
    for row in rows:
        table.add_row(*(_shown(row[name]) for name in columns))
    Console(width=120).print(table)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple | list):
        return "x".join(map(str, value))
    return "not measured" if value is None else str(value)


def write_json(path: Path | None, config: Any, **found: Any) -> None:
    """Writes what was found with the config, the device and the versions; nothing where `path` is None."""
    if path is None:
        return
    device = jax.devices()[0]
    there = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    about = {
        "config": dataclasses.asdict(config),
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.local_device_count(),
        "cores": os.cpu_count(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES if name in there},
    }
    with replacing(path) as file:
        file.write(json.dumps(about | found, indent=1, default=str).encode())
