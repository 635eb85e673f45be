"""What it costs that a training of a fusion network can be killed: its checkpoints on disk, and going on from one.

    python -m eval.benchmarks.resume_cost

prints for each architecture the bytes of a checkpoint, and the median seconds that a training waits until one begins to
be written (`begin_s`), until it is whole (`write_s`), and of going on (`resume_s`): reading it, every hash checked, and
bringing the reader to its place in the middle of the run.
"""

import dataclasses
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array

from eval.benchmarks.common import print_row
from mlfem_jax.backbones import load_backbone
from mlfem_jax.cli import run_command
from mlfem_jax.data import read_examples
from mlfem_jax.fusion import FusionNet, default_maps, make_net
from mlfem_jax.training import TrainState, open_checkpoints, restore_checkpoint, save_checkpoint
from mlfem_jax.training.fusion import Recipe, initial_state


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
        net = make_net(architecture, channels=default_maps(architecture, layers).channels)
        costs = {"architecture": architecture} | measure(net, config)
        print_row(costs)


def measure(net: FusionNet, config: Config) -> dict[str, Any]:
    """Bytes and seconds of a checkpoint in the middle of a run."""
    recipe = Recipe()
    epochs = recipe.passes(net)
    state = _as_if_trained(initial_state(net, recipe, steps=1000))
    read = functools.partial(
        read_examples, _nothing, np.arange(config.images), batch_size=recipe.batch_size, seed=0, epochs=epochs
    )
    reader = iter(read())
    for _ in range(epochs * config.images // recipe.batch_size // 2):
        next(reader)
    with tempfile.TemporaryDirectory() as name:

        def go_on() -> None:
            again = iter(read())
            restore_checkpoint(name, config.repeats, state, again)
            next(again)

        steps = iter(range(1, config.repeats + 1))
        with open_checkpoints(name, state) as manager:

            def begin() -> None:
                step = next(steps)
                save_checkpoint(manager, step, state, reader, score=float(step))

            begin_s, write_s = _median_s(begin, config.repeats, after=manager.wait_until_finished)
        resume_s, _ = _median_s(go_on, config.repeats)
        size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
    seconds = {"begin_s": begin_s, "write_s": write_s, "resume_s": resume_s}
    return {"bytes": size} | seconds


def _as_if_trained(state: TrainState) -> TrainState:
    """Noise in place of the zeros and the copies of a fresh state, which orbax would compress away."""
    rng = np.random.default_rng(0)

    def noise(leaf: Array) -> Array | np.ndarray:
        floats = jnp.issubdtype(leaf.dtype, jnp.floating)
        return rng.normal(size=leaf.shape).astype(leaf.dtype) if floats else leaf

    return jax.tree.map(noise, state)


def _nothing(position: int) -> dict[str, np.ndarray]:
    return {"position": np.array(position)}


def _median_s(call: Callable[[], Any], repeats: int, *, after: Callable[[], Any] = lambda: None) -> tuple[float, float]:
    """Seconds of a call, and of the call and what comes after it."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        returned = time.perf_counter()
        after()
        seconds.append((returned - start, time.perf_counter() - start))
    alone, together = zip(*seconds, strict=True)
    return statistics.median(alone), statistics.median(together)


if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.resume_cost", lambda: main(tyro.cli(Config))))
