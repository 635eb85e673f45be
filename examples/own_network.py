"""Your own network: a small Flax NNX classifier, trained here within seconds, and where it looks.

    python examples/own_network.py --out out/own

It tells red discs from green and blue ones, so its maps should lie there. Writes `own.png`: pictures, maps below.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import tyro
from flax import nnx
from optax import adam, softmax_cross_entropy_with_integer_labels as cross_entropy

import mlfem_jax as mlfem
from mlfem_jax.backbones import unit_pixels
from mlfem_jax.cli import run_command
from mlfem_jax.plot import write_png


def own_network(*, steps: int = 150, out: Path = Path("out/own")) -> None:
    """Trains a network for `steps`, wraps it, explains five pictures, and writes to the folder `out`."""
    rngs, random = nnx.Rngs(0), np.random.default_rng(0)
    first, second = (nnx.Conv(*channels, (3, 3), strides=2, rngs=rngs) for channels in ((3, 16), (16, 32)))
    net = nnx.Sequential(first, jax.nn.relu, second, jax.nn.relu, lambda x: x.max((1, 2)), nnx.Linear(32, 3, rngs=rngs))
    optimizer = nnx.Optimizer(net, adam(3e-3), wrt=nnx.Param)
    for _ in range(steps):
        photos, _, colors = draw(random, 64)
        train(net, optimizer, unit_pixels(photos), colors)
    # `net.layers[1]` and `net.layers[3]` are the ReLUs: a map is of what comes out of them.
    backbone = mlfem.from_nnx(net, ["layers.1", "layers.3"], input_size=(64, 64), preprocess=unit_pixels)
    photos, discs, _ = draw(random, 5)
    rows = [list(photos)]
    for method in ("add", "grad_cam"):
        maps = np.asarray(mlfem.explain(backbone, photos, method=method))
        rows.append([mlfem.overlay(*pair) for pair in zip(photos, maps, strict=True)])
        print(f"{method}: {(maps * discs).sum() / maps.sum():.0%} on the disc, {discs.mean():.0%} of the picture")
    write_png(out / "own.png", np.vstack([np.hstack(row) for row in rows]).repeat(2, 0).repeat(2, 1))
    print(f"open {out / 'own.png'}")


@nnx.jit
def train(net: nnx.Module, optimizer: nnx.Optimizer, images: jax.Array, colors: np.ndarray) -> None:
    """One step on a batch."""
    optimizer.update(net, nnx.grad(lambda net: cross_entropy(net(images), colors).mean())(net))


def draw(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noisy gray pictures (N, 64, 64, 3), where in each the disc is (N, 64, 64), and its color (N,)."""
    centers, colors = random.uniform(10, 54, (count, 1, 1, 2)), random.integers(0, 3, count)
    discs = np.square(np.indices((64, 64)).transpose(1, 2, 0) - centers).sum(-1) < 9**2
    gray = random.integers(60, 200, (count, 64, 64, 1))
    return np.where(discs[..., None], 220 * np.eye(3)[colors][:, None, None], gray).astype(np.uint8), discs, colors


if __name__ == "__main__":
    sys.exit(run_command("own_network", lambda: tyro.cli(own_network)))
