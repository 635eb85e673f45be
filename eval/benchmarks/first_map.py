"""How long a user waits for the first map: the whole command, from starting Python to the picture on disk.

    python -m eval.benchmarks.first_map --backbones efficientnet_lite0 resnet50

Each network explains one photograph twice by `mlfem explain`: with an empty folder of compiled functions, and with what
the first run left in it.
"""

import dataclasses
import functools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tyro
from PIL import Image

from eval.benchmarks.common import noise, print_row, seconds_of, write_json
from mlfem_jax.cli import run_command


@dataclasses.dataclass(frozen=True)
class Config:
    """How long a user waits for the first map.

    Attributes:
        backbones: networks, with random weights.
        method: see `mlfem methods`.
        photo: (height, width) in pixels of the photograph, which is noise.
        out: JSON file to write.
    """

    backbones: tuple[str, ...] = ("efficientnet_lite0", "resnet50")
    method: str = "add"
    photo: tuple[int, int] = (480, 640)
    out: Path | None = None


def main(config: Config) -> None:
    """Prints a line for each network, and writes them as JSON where that is asked for."""
    rows = []
    for name in config.backbones:
        rows.append(first_map(name, config))
        print_row(rows[-1])
    write_json(config.out, config, rows=rows)


def first_map(backbone: str, config: Config) -> dict[str, Any]:
    """Seconds of the command without and with compiled functions on disk.

    Raises:
        ValueError: the command failed; it has said why.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.fromarray(noise(*config.photo, 3)).save(folder / "photo.jpg")
        command = [sys.executable, "-m", "mlfem_jax.cli", "explain", str(folder / "photo.jpg")]
        command += ["--backbone", backbone, "--weights", "random", "--method", config.method]
        command += ["--cache", str(folder / "cache"), "--out", str(folder / "maps")]
        run = functools.partial(_run, command)
        return {"backbone": backbone, "first_s": seconds_of(run), "again_s": seconds_of(run)}


def _run(command: list[str]) -> None:
    status = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    if status:
        raise ValueError(f"mlfem explain: expected status 0, got {status}")


if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.first_map", lambda: main(tyro.cli(Config))))
