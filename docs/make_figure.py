"""The README's picture: a photograph, FEM, ADD and NET side by side.

    python docs/make_figure.py

There is no gaze in it: nobody's gaze is known on a photograph whose license allows it to be shown here. Chelsea is by
Stéfan van der Walt, CC0, from scikit-image.
"""

import functools
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

import mlfem_jax as mlfem
from mlfem_jax.files import replacing
from mlfem_jax.plot import contact_sheet

CHELSEA = Path(str(files("skimage") / "data" / "chelsea.png"))
PANEL_PX = (200, 300)
CAPTIONS = {
    "fem": "FEM: the last layer",
    "add": "ADD: all layers, added",
    "net": "NET: all layers, by a network",
}


def make_figure(out: Path = Path(__file__).parent / "images" / "maps.jpg") -> None:
    """Writes the picture."""
    photo = mlfem.resize_photo(mlfem.read_photo(CHELSEA), PANEL_PX)
    look = functools.partial(mlfem.explain, mlfem.load_backbone("efficientnet_lite0"), [photo], output="photo")
    maps = {CAPTIONS[name]: np.asarray(look(method=name, **_options(name))[0]) for name in CAPTIONS}
    sheet = contact_sheet(photo, {"What EfficientNet-Lite0 looked at": maps}, columns=4)
    with replacing(out) as file:
        Image.fromarray(sheet[28:]).save(file, "JPEG", quality=88)


def _options(name: str) -> dict[str, str]:
    return {"architecture": "net"} if name == "net" else {}


if __name__ == "__main__":
    make_figure()
