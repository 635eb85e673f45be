"""How faithful is each method to your own network? Photographs scored, and a report of it.

    python examples/evaluate_your_model.py --out out/evaluation

The network stands in for yours: its weights are set by hand, and it calls a picture red, green or blue by the patch
that is most so. No gaze is needed: a good map marks the pixels that suffice for the network's answer (`insertion`).
"""

import sys
from importlib.resources import files
from pathlib import Path

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

import mlfem_jax as mlfem
from mlfem_jax.backbones import unit_pixels
from mlfem_jax.cli import run_command
from mlfem_jax.data import photo_record
from mlfem_jax.report import Config as Report, write_report
from mlfem_jax.scores import Config as Scores, load, score_records

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "color.png", "motorcycle_left.png", "rocket.jpg")
METHODS = ("grad_cam", "fem", "add", "saliency", "center", "random")


class Colors(nnx.Module):
    """How much more of one color than of the others the most colorful patch has, for each of three colors."""

    def __init__(self) -> None:
        """Sets the weights by hand."""
        self.patches = nnx.Conv(3, 3, (8, 8), strides=4, use_bias=False, rngs=nnx.Rngs(0))
        self.patches.kernel[...] = jnp.broadcast_to((1.5 * jnp.eye(3) - 0.5) / 64, (8, 8, 3, 3))
        self.relu = jax.nn.relu

    def __call__(self, images: jax.Array) -> jax.Array:
        """(N, H, W, 3) in [0, 1] to the logits (N, 3)."""
        return 10 * self.relu(self.patches(images)).max(axis=(1, 2))


def evaluate_your_model(*, out: Path = Path("out/evaluation")) -> None:
    """Scores methods on a network of one's own, and writes the table and the report to the folder `out`."""
    labels = ("red", "green", "blue")
    backbone = mlfem.from_nnx(Colors(), ["relu"], input_size=(128, 128), preprocess=unit_pixels, labels=labels)
    records = [photo_record(str(files("skimage") / "data" / name)) for name in PHOTOGRAPHS]
    dataset = {"name": "photographs", "sigma_px": 1.0, "class_names": []}
    config = Scores(Path(), out / "scores", methods=METHODS, metrics=("model",), humans=False)
    score_records(config, records, dataset, backbone)
    write_report(Report(out / "scores", out))

    for method, mean in zip(METHODS, load(out / "scores").by_metric["insertion"].mean(axis=0), strict=True):
        print(f"{method:10} insertion {mean:.2f}")
    print(f"open {out / 'report.html'}")


if __name__ == "__main__":
    sys.exit(run_command("evaluate_your_model", lambda: tyro.cli(evaluate_your_model)))
