"""How long and how dear many images are on many accelerators, reckoned from one measured device.

    python -m eval.benchmarks.throughput --out out/throughput.json
    python -m eval.benchmarks.reckon out/throughput.json --price-per-hour 2.50

Measured: the speed of one device, and of reading JPEG files by one core. Reckoned: everything else, on the assumption
that devices do not wait for each other. They need not: each explains its own share of the images with its own copy of
the network, and nothing is exchanged. What can break the assumption is reading, which is why the cores that keep an
accelerator busy are listed.
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


@dataclasses.dataclass(frozen=True)
class Config:
    """How long and how dear many images are on many accelerators.

    Attributes:
        report: the JSON file that `eval.benchmarks.throughput` wrote.
        price_per_hour: of one accelerator with its share of a host, in any currency.
        images: to explain.
        accelerators: numbers of them.
        what: the measured work, a row of the report.
    """

    report: tyro.conf.Positional[Path]
    price_per_hour: float
    images: int = 10_000_000
    accelerators: tuple[int, ...] = (8, 64, 512)
    what: str = SCORED

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.price_per_hour < 0 or self.images < 1 or min(self.accelerators, default=0) < 1:
            raise ValueError(f"price_per_hour, images and accelerators: expected positive numbers, got {self}")


def main(config: Config) -> None:
    """Prints one table, and what of it was measured."""
    report = read_report(config.report)
    title = f"{config.images:,} images, {config.what}, at {config.price_per_hour:g} an hour"
    print_table(list(reckon(report, config)), title=title)
    Console(width=120).print(
        f"Measured: the images/s of {report['devices']} x {report['device']} ({report['dtype']}), and of reading by "
        "one core. Reckoned: the rest, by proportion; the time to start and to compile is left out.",
        highlight=False,
    )


def read_report(path: Path) -> dict[str, Any]:
    """What `eval.benchmarks.throughput` wrote.

    Raises:
        ValueError: the file is something else.
    """
    try:
        report = json.loads(path.read_text())
        return {name: report[name] for name in ("device", "devices", "dtype", "rows", "reading")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected what benchmarks.throughput wrote, got {error!r}") from error


def reckon(report: dict[str, Any], config: Config) -> Iterator[dict[str, Any]]:
    """One line for each network, size and number of accelerators.

    Args:
        report: what `eval.benchmarks.throughput` wrote.
        config: see there.

    Returns:
        An iterator of dicts; "reading_cores" is None where reading was not measured by one thread.

    Raises:
        ValueError: the report has no such work.
    """
    rows = [row for row in report["rows"] if row["what"] == config.what]
    if not rows:
        known = ", ".join(dict.fromkeys(repr(row["what"]) for row in report["rows"]))
        raise ValueError(f"what: expected one of {known}, got {config.what!r}")
    reading = {row["backbone"]: row["reading alone, images/s"] for row in report["reading"] if not row["workers"]}
    for row in rows:
        one = row["images_per_s"] / report["devices"]
        for count in config.accelerators:
            hours = config.images / (one * count) / 3600
            core = reading.get(row["backbone"])
            yield {
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
