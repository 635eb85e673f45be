"""A fusion trained on gaze: a folder of your own recordings, prepared, trained on, and the new map drawn.

    python examples/train_fusion.py --out out/fusion

The gaze is synthetic: three observers who look at what is colorful. `out/recordings` shows how your own have to lie.
Eight photographs show the way, not how good a fusion gets. Writes `fusion.png`: photographs, below `add`, then the new.
"""

import csv
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import tyro

import mlfem_jax as mlfem
from mlfem_jax.cli import run_command
from mlfem_jax.plot import write_png
from mlfem_jax.training import fusion

NAMES = "astronaut.png chelsea.png coffee.png motorcycle_left.png rocket.jpg color.png ihc.png retina.jpg".split()


def train_fusion(*, epochs: int = 10, out: Path = Path("out/fusion")) -> None:
    """Records, prepares, trains for `epochs`, and explains; all of it in the folder `out`."""
    photos = [Path(str(files("skimage") / "data" / name)) for name in NAMES]
    record(photos, out / "recordings")
    data = mlfem.data.prepare("folder", out / "recordings", out / "data", sigma_px=24.0)
    recipe = fusion.Recipe(epochs=epochs, batch_size=4)
    fusion.train_fusion(fusion.Config(data, out / "run", validation=0.0, every=10, ks=(1.0, 2.0), recipe=recipe))

    backbone = mlfem.load_backbone("efficientnet_lite0")
    add, trained = mlfem.method("add"), mlfem.method("net", weights=str(out / "run" / "fusion.safetensors"))
    shown = [mlfem.resize_photo(mlfem.read_photo(photo), backbone.photo_size) for photo in photos[:4]]
    maps = mlfem.map_batches(backbone, shown, lambda forward: (add(forward), trained(forward)))
    columns = [[photo, *(mlfem.overlay(photo, one) for one in both)] for photo, both in zip(shown, maps, strict=True)]
    write_png(out / "fusion.png", np.hstack([np.vstack(column) for column in columns]))
    print(f"open {out / 'fusion.png'} and {out / 'run' / 'curves.png'}")


def record(photos: list[Path], folder: Path) -> None:
    """Writes images/ and fixations.csv: 30 fixations on each photograph, on a pixel as likely as it is colorful."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with open(folder / "fixations.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("image", "observer", "x", "y"))
        for photo in photos:
            shutil.copy2(photo, folder / "images")
            colorful = np.ptp(mlfem.read_photo(photo).astype(float), axis=2) ** 2
            for place in random.choice(colorful.size, 30, p=(colorful / colorful.sum()).ravel()):
                y, x = np.unravel_index(place, colorful.shape)
                table.writerow((photo.name, f"observer {random.integers(3)}", x, y))


if __name__ == "__main__":
    sys.exit(run_command("train_fusion", lambda: tyro.cli(train_fusion)))
