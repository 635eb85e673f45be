"""What every layer of a network looked at, and what each way to fuse the layers makes of it.

    python examples/layers_and_fusions.py --out out/layers

Writes `sheet.png`, arranged as the paper's Figure 1: a photograph, its fused maps, and the map of each layer. Early
layers see edges, late ones see things; `product` keeps what all agree on, `max` what any of them saw.
"""

import functools
import sys
from importlib.resources import files
from pathlib import Path

import jax
import tyro

import mlfem_jax as mlfem
from mlfem_jax.cli import run_command
from mlfem_jax.fusion import OPERATORS
from mlfem_jax.plot import contact_sheet, write_png

CHELSEA = Path(str(files("skimage") / "data" / "chelsea.png"))
PANEL_PX = (150, 225)


def layers_and_fusions(*, photo: Path = CHELSEA, k: float = 2.0, out: Path = Path("out/layers")) -> None:
    """Draws the maps of all layers of EfficientNet-Lite0, and all fusions of them.

    Args:
        photo: the file, of any size.
        k: standard deviations above a channel's mean that make an activation strong.
        out: folder to write to.
    """
    backbone = mlfem.load_backbone("efficientnet_lite0")

    def look(forward: mlfem.Forward) -> tuple[jax.Array, dict[str, jax.Array]]:
        """From one forward pass over a batch: (N, layers, H, W), and (N, H, W) by the fusion's name."""
        stacks = jax.vmap(lambda activations: mlfem.layer_maps(activations, forward.size, k=k))(forward.activations)
        return stacks, {name: jax.vmap(functools.partial(mlfem.fuse, operator=name))(stacks) for name in OPERATORS}

    image = mlfem.read_photo(photo)
    ((stack, fused),) = mlfem.map_batches(backbone, [image], look)

    layers = {
        name: mlfem.place_map(importance, PANEL_PX) for name, importance in zip(backbone.layers, stack, strict=True)
    }
    fusions = {name: mlfem.place_map(fused[name], PANEL_PX) for name in OPERATORS}
    sections = {"Fusions": fusions, "Layers, first to last": layers}
    write_png(out / "sheet.png", contact_sheet(mlfem.resize_photo(image, PANEL_PX), sections, title=photo.name))
    print(f"{len(layers)} layers, {len(fusions)} fusions: open {out / 'sheet.png'}")


if __name__ == "__main__":
    sys.exit(run_command("layers_and_fusions", lambda: tyro.cli(layers_and_fusions)))
