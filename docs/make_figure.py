"""The README's picture: a photograph, FEM, ADD and NET side by side.

    python docs/make_figure.py

There is no gaze in it: nobody's gaze is known on a photograph whose license allows it to be shown here. Chelsea is by
Stéfan van der Walt, CC0, from scikit-image.
"""

from importlib.resources import files
from pathlib import Path

import jax
from PIL import Image

import mlfem_jax as mlfem
from mlfem_jax.files import replacing
from mlfem_jax.plot import contact_sheet

CHELSEA = Path(str(files("skimage") / "data" / "chelsea.png"))
PANEL_PX = (200, 300)


def make_figure(out: Path = Path(__file__).parent / "images" / "maps.jpg") -> None:
    """Writes the picture."""
    methods = {
        "FEM: the last layer": mlfem.method("fem"),
        "ADD: all layers, added": mlfem.method("add"),
        "NET: all layers, by a network": mlfem.method("net", architecture="net"),
    }

    def look(forward: mlfem.Forward) -> dict[str, jax.Array]:
        return {caption: maps(forward) for caption, maps in methods.items()}

    photo = mlfem.resize_photo(mlfem.read_photo(CHELSEA), PANEL_PX)
    (found,) = mlfem.map_batches(mlfem.load_backbone("efficientnet_lite0"), [photo], look)
    maps = {caption: mlfem.place_map(found[caption], PANEL_PX) for caption in methods}
    sheet = contact_sheet(photo, {"What EfficientNet-Lite0 looked at": maps}, columns=4)
    with replacing(out) as file:
        Image.fromarray(sheet[28:]).save(file, "JPEG", quality=88)


if __name__ == "__main__":
    make_figure()
