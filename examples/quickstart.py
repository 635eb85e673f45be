"""The first map: what EfficientNet-Lite0 looked at in a photograph of a cup of coffee, or in one of yours.

    python examples/quickstart.py --out out/quickstart
    python examples/quickstart.py --photo holiday.jpg --out out/quickstart

Writes `map.png`, the map laid over the photograph as heat, and `map.npy`, its values: 0 to 1, one for each pixel.
"""

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import tyro

import mlfem_jax as mlfem
from mlfem_jax.cli import run_command
from mlfem_jax.plot import write_png

COFFEE = Path(str(files("skimage") / "data" / "coffee.png"))


def quickstart(*, photo: Path = COFFEE, out: Path = Path("out/quickstart")) -> None:
    """Explains one photograph.

    Args:
        photo: the file, of any size.
        out: folder to write to.
    """
    backbone = mlfem.load_backbone("efficientnet_lite0")
    image = mlfem.read_photo(photo)

    (logits,) = mlfem.map_batches(backbone, [image], lambda forward: forward.logits)
    (importance,) = mlfem.explain(backbone, [image], method="add", output="photo")

    write_png(out / "map.png", mlfem.overlay(image, importance))
    np.save(out / "map.npy", importance)
    print(f"{backbone.labels[logits.argmax()]}: open {out / 'map.png'}")


if __name__ == "__main__":
    sys.exit(run_command("quickstart", lambda: tyro.cli(quickstart)))
