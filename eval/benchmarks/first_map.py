"""How long a user waits for the first map: the whole command, from starting Python to the picture on disk.

    python -m eval.benchmarks.first_map --backbones efficientnet_lite0 resnet50

Each network explains one photograph twice by `mlfem explain`: with an empty folder of compiled functions, and with what
the first run left in it.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from mlfem_jax.files import replacing


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
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if config.out is not None:
        with replacing(config.out) as file:
            file.write(json.dumps(rows, indent=2).encode())


def first_map(backbone: str, config: Config) -> dict[str, Any]:
    """Seconds of the command without and with compiled functions on disk.

    Raises:
        CalledProcessError: the command failed; it has said why.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise = np.random.default_rng(0).integers(0, 256, (*config.photo, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "photo.jpg")
        arguments = [str(folder / "photo.jpg"), "--backbone", backbone, "--weights", "random"]
        arguments += ["--method", config.method, "--cache", str(folder / "cache"), "--out", str(folder / "maps")]
        command = [
            sys.executable,
            "-c",
            "from mlfem_jax.cli import main; raise SystemExit(main())",
            "explain",
            *arguments,
        ]
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(round(time.perf_counter() - start, 1))
    return {"backbone": backbone, "first_s": seconds[0], "again_s": seconds[1]}


if __name__ == "__main__":
    main(tyro.cli(Config))
