"""How long and how dear many images are on many accelerators, reckoned from one measured or compiled for.

    python -m eval.benchmarks.throughput --out out/throughput.json
    python -m eval.benchmarks.reckon out/throughput.json --price-per-hour 2.50
    python -m eval.benchmarks.compiled --what scores --batch-size 256 --out out/compiled.json
    python -m eval.benchmarks.reckon out/compiled.json --price-per-hour 2.50 --reading-per-core 400

Of what `eval.benchmarks.throughput` wrote, measured: the speed of one device, and of reading JPEG files by one core. Of
what `eval.benchmarks.compiled` wrote, compiled: the most that the peaks of a device allow the program, so hours, cost
and cores are bounds too. Reckoned: everything else, on the assumption that devices do not wait for each other. They
need not: each explains its own share of the images with its own copy of the network, and nothing is exchanged. What can
break the assumption is reading, which is why the cores that keep an accelerator busy are listed.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from eval.benchmarks.common import print_table
from mlfem_jax.cli import run_command

SCORED = "add, PCC and SIM against the GFDM"
_WORKS = {"scores": SCORED}  # what `eval.benchmarks.compiled` calls otherwise


@dataclasses.dataclass(frozen=True)
class Config:
    """How long and how dear many images are on many accelerators.

    Attributes:
        report: the JSON file that `eval.benchmarks.throughput` or `eval.benchmarks.compiled` wrote.
        price_per_hour: of one accelerator with its share of a host, in any currency.
        images: to explain.
        accelerators: numbers of them.
        what: the work, a row of the report.
        reading_per_core: images/s that one core reads, from `eval.benchmarks.reading`. Default: the report's.
    """

    report: tyro.conf.Positional[Path]
    price_per_hour: float
    images: int = 10_000_000
    accelerators: tuple[int, ...] = (8, 64, 512)
    what: str = SCORED
    reading_per_core: float | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.price_per_hour < 0 or self.images < 1 or min(self.accelerators, default=0) < 1:
            raise ValueError(f"price_per_hour, images and accelerators: expected positive numbers, got {self}")
        if self.reading_per_core is not None and not self.reading_per_core > 0:
            raise ValueError(f"reading_per_core: expected images/s above 0, got {self.reading_per_core}")


def main(config: Config) -> None:
    """Prints one table, and what of it was measured or compiled."""
    report = read_report(config.report)
    title = f"{config.images:,} images, {config.what}, at {config.price_per_hour:g} an hour"
    print_table(list(reckon(report, config)), title=title)
    rest = "Reckoned: the rest, by proportion; the time to start and to compile is left out."
    Console(width=120).print(f"{report['about']} {rest}", highlight=False)


def read_report(path: Path) -> dict[str, Any]:
    """What `eval.benchmarks.throughput` or `eval.benchmarks.compiled` wrote.

    Returns:
        A dict: "rows", dicts with "device", "backbone", "size", "what" and the "images_per_s" of one device; "reading",
        backbone to the images/s of one core; "about", what was measured or compiled.

    Raises:
        ValueError: the file is something else.
    """
    try:
        report = json.loads(path.read_text())
        return _compiled(report) if "targets" in report["config"] else _measured(report)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected what benchmarks.throughput or benchmarks.compiled wrote, got {error!r}"
        ) from error


def _measured(report: dict[str, Any]) -> dict[str, Any]:
    devices, kind = report["devices"], report["device"]
    rows = [row | {"device": kind, "images_per_s": row["images_per_s"] / devices} for row in report["rows"]]
    reading = {row["backbone"]: row["reading alone, images/s"] for row in report["reading"] if not row["workers"]}
    about = f"Measured: the images/s of {devices} x {kind} ({report['dtype']}), and of reading by one core."
    return {"rows": rows, "reading": reading, "about": about}


def _compiled(report: dict[str, Any]) -> dict[str, Any]:
    share = report["config"]["batch_size"] / report["config"]["devices"]
    rows = [
        row | {"device": row["target"], "what": _WORKS.get(row["what"], row["what"]),
               "images_per_s": 1e3 * share / row["compiled_bound_ms"]}
        for row in report["rows"] if row.get("compiled_bound_ms")
    ]  # fmt: skip
    about = f"Compiled: the most images/s that one device's peaks allow ({report['config']['dtype']}), never a speed."
    return {"rows": rows, "reading": {}, "about": about}


def reckon(report: dict[str, Any], config: Config) -> Iterator[dict[str, Any]]:
    """One line for each device, network, size and number of accelerators.

    Args:
        report: from `read_report`.
        config: see there.

    Returns:
        An iterator of dicts; "reading_cores" is None where the speed of reading is not known.

    Raises:
        ValueError: the report has no such work.
    """
    rows = [row for row in report["rows"] if row["what"] == config.what]
    if not rows:
        known = ", ".join(dict.fromkeys(repr(row["what"]) for row in report["rows"]))
        raise ValueError(f"what: expected one of {known}, got {config.what!r}")
    for row in rows:
        one = row["images_per_s"]
        core = config.reading_per_core or report["reading"].get(row["backbone"])
        for count in config.accelerators:
            hours = config.images / (one * count) / 3600
            yield {
                "device": row["device"],
                "backbone": row["backbone"],
                "size": row["size"],
                "accelerators": count,
                "images_per_hour": one * count * 3600,
                "hours": hours,
                "cost": hours * count * config.price_per_hour,
                "reading_cores": None if core is None else math.ceil(one * count / core),
            }


if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.reckon", lambda: main(tyro.cli(Config))))
