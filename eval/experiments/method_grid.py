"""One photograph, all explanation methods, in one picture.

python -m eval.experiments.method_grid PHOTO --out grid.png
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import tyro

from mlfem_jax import explain, load_backbone, map_batches
from mlfem_jax.attribution import FAMILIES
from mlfem_jax.cli import run_command
from mlfem_jax.photos import read_photo, resize_photo
from mlfem_jax.plot import contact_sheet, write_png


@dataclasses.dataclass(frozen=True)
class Config:
    """One photograph, all explanation methods.

    Attributes:
        photo: an image file.
        out: the PNG to write.
        backbone: see `load_backbone`.
        weights: see `load_backbone`.
    """

    photo: tyro.conf.Positional[Path]
    out: Path
    backbone: str = "efficientnet_lite0"
    weights: str | None = None


def main(config: Config) -> None:
    """Writes the picture."""
    backbone = load_backbone(config.backbone, config.weights)
    photo = resize_photo(read_photo(config.photo), backbone.photo_size)
    (logits,) = map_batches(backbone, photo[None], lambda forward: forward.logits)
    predicted = backbone.labels[logits.argmax()] if backbone.labels else f"class {logits.argmax()}"
    sections = {
        family: {name: _visible(np.asarray(explain(backbone, photo[None], method=name)[0])) for name in methods}
        for family, methods in FAMILIES.items()
    }
    title = f"{config.photo.stem}\n{backbone.name}: {predicted}"
    write_png(config.out, contact_sheet(photo, sections, title=title, columns=8))


def _visible(importance: np.ndarray) -> np.ndarray:
    """The map with its highest hundredth cut off: a few pixels hold most of a gradient, and hide the rest of it."""
    top = np.quantile(importance, 0.99)
    return np.clip(importance / top, 0, 1) if top > 0 else importance


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.method_grid", lambda: main(tyro.cli(Config))))
