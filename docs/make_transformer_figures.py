"""The pictures of the page on transformers: what FEM and attention see in a DINOv2 ViT-S/14.

    python docs/make_transformer_figures.py

Needs the trained weights of the extra `dinov2`. The photographs are scikit-image's: the astronaut is NASA's, in the
public domain; the cup is by Rachel Michetti, CC0.
"""

import functools
from importlib.resources import files
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

import mlfem_jax as mlfem
from mlfem_jax.files import replacing
from mlfem_jax.plot import contact_sheet

PHOTOS = Path(str(files("skimage") / "data"))
PANEL_PX = (160, 160)
BLOCKS = (2, 5, 8, 11)
IMAGES = Path(__file__).parent / "images"


def looks() -> dict[str, dict[str, dict[str, mlfem.Method]]]:
    """For each picture and each of its sections, what stands under which caption."""
    last = ("blocks.11",)
    blocks = {f"block {block}": (f"blocks.{block}",) for block in BLOCKS}
    return {
        "vit_signs": {
            "FEM of the last block, by sign": {
                sign: mlfem.method("fem", layers=last, sign=sign) for sign in ("as_is", "relu", "two_sided")
            }
        },
        "vit_blocks": {
            "FEM, two_sided": {name: mlfem.method("fem", layers=layers) for name, layers in blocks.items()},
            "attention": {name: mlfem.method("attention", layers=layers) for name, layers in blocks.items()},
        },
        "vit_attention": {
            "All blocks": {name: mlfem.method(name) for name in ("attention", "chefer", "rollout", "rfem")}
            | {"rfem\nsinks=3": mlfem.method("rfem", sinks=3.0)}
        },
    }


def main(names: tuple[str, ...] = ("astronaut.png", "coffee.png")) -> None:
    """Writes the pictures."""
    chosen = looks()
    photos = [mlfem.read_photo(PHOTOS / name) for name in names]
    found = list(mlfem.map_batches(mlfem.load_backbone("dinov2_vits14"), photos, functools.partial(look, chosen)))
    for picture, sections in chosen.items():
        columns = 1 + max(map(len, sections.values()))
        sheets = []
        for photo, maps in zip(photos, found, strict=True):
            placed = {section: {name: mlfem.place_map(maps[picture][section][name], PANEL_PX) for name in of}
                      for section, of in sections.items()}  # fmt: skip
            sheets.append(contact_sheet(mlfem.resize_photo(photo, PANEL_PX), placed, columns=columns))
        with replacing(IMAGES / f"{picture}.jpg") as file:
            Image.fromarray(np.concatenate(sheets)).save(file, "JPEG", quality=85)


def look(chosen: dict[str, dict[str, dict[str, mlfem.Method]]], forward: mlfem.Forward) -> dict[str, Any]:
    """The maps of all pictures from one forward pass."""
    return jax.tree.map(lambda method: method(forward), chosen, is_leaf=callable)


if __name__ == "__main__":
    main()
