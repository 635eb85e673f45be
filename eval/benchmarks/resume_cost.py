"""What it costs that a training of a fusion network can be killed: its checkpoints on disk, and going on from one.

    python -m eval benchmarks.resume_cost

prints for each architecture the bytes of a checkpoint, and the median seconds of writing one and of going on: reading
it, with every hash checked, and bringing the reader to its place in the middle of the run.
"""

import dataclasses
import functools
import statistics
import tempfile
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from eval.benchmarks.common import print_row, seconds_of
from mlfem_jax.backbones import load_backbone
from mlfem_jax.data import read_examples
from mlfem_jax.fusion import FusionNet, default_maps
from mlfem_jax.training import restore_checkpoint, save_checkpoint
from mlfem_jax.training.fusion import Recipe, TrainState, initial_state


@dataclasses.dataclass(frozen=True)
class Config:
    """What it costs that a training of a fusion network can be killed.

    Attributes:
        backbone: network whose layers are fused.
        architectures: of the fusion networks.
        images: in an epoch.
        repeats: of each measurement; the median counts.
    """

    backbone: str = "efficientnet_lite0"
    architectures: tuple[Literal["net", "unet"], ...] = ("net", "unet")
    images: int = 480
    repeats: int = 5


def main(config: Config) -> None:
    """Prints a line for each architecture."""
    layers = load_backbone(config.backbone, "random").layers
    for architecture in config.architectures:
        net = FusionNet(default_maps(architecture, layers).channels, architecture)
        print_row({"architecture": architecture} | measure(net, config))


def measure(net: FusionNet, config: Config) -> dict[str, Any]:
    """Bytes and seconds of a checkpoint in the middle of a run."""
    recipe = Recipe()
    state = _as_if_trained(initial_state(net, recipe, steps=1000))
    read = functools.partial(
        read_examples, _nothing, np.arange(config.images), batch_size=recipe.batch_size, seed=0, epochs=recipe.epochs
    )
    reader = iter(read())
    for _ in range(recipe.epochs * config.images // recipe.batch_size // 2):
        next(reader)
    with tempfile.TemporaryDirectory() as name:

        def go_on() -> None:
            _, position = restore_checkpoint(name, config.repeats, state)
            again = iter(read())
            again.set_state(position)
            next(again)

        def write(step: int) -> None:
            save_checkpoint(name, step, state, reader.get_state())

        writing = [seconds_of(functools.partial(write, step)) for step in range(1, config.repeats + 1)]
        resuming = [seconds_of(go_on) for _ in range(config.repeats)]
        size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
    return {"bytes": size, "write_s": statistics.median(writing), "resume_s": statistics.median(resuming)}


def _as_if_trained(state: TrainState) -> TrainState:
    """Noise in place of the zeros and the copies of a fresh state, which orbax would compress away."""
    rng = np.random.default_rng(0)

    def noise(leaf: Array) -> Array | np.ndarray:
        floats = jnp.issubdtype(leaf.dtype, jnp.floating)
        return rng.normal(size=leaf.shape).astype(leaf.dtype) if floats else leaf

    return jax.tree.map(noise, state)


def _nothing(position: int) -> dict[str, np.ndarray]:
    return {"position": np.array(position)}
