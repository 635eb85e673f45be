"""Time of a training step on a small network: with the loop as it is, and with one that waits for every loss.

    python -m eval.benchmarks.step_time

prints the median milliseconds of a step of each, the two in turns, reading and putting its batch included.
"""

import dataclasses
import statistics
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
import tyro

from mlfem_jax.cli import run_command
from mlfem_jax.data import read_examples
from mlfem_jax.fusion import PaperNet
from mlfem_jax.parallel import batch_sharding
from mlfem_jax.training import train
from mlfem_jax.training.fusion import Recipe, initial_state, make_step


@dataclasses.dataclass(frozen=True)
class Config:
    """Time of a training step.

    Attributes:
        steps: of each run.
        size: side in pixels of the maps, two an example.
        batch_size: examples in a step.
        repeats: runs of each kind.
    """

    steps: int = 200
    size: int = 32
    batch_size: int = 16
    repeats: int = 5


def main(config: Config) -> None:
    """Prints the two times."""
    net, recipe = PaperNet(2), Recipe(batch_size=config.batch_size)
    step = make_step(net, recipe, config.steps, (config.size, config.size))
    state = initial_state(net, recipe, config.steps)
    measure(config, state, step, waits=True)  # compiles
    seconds = {waits: [] for waits in (True, False)}
    for _ in range(config.repeats):
        for waits, found in seconds.items():
            found.append(measure(config, state, step, waits=waits))
    for waits, name in ((True, "waits for every loss"), (False, "waits for reports")):
        print(f"{name}: {1e3 * statistics.median(seconds[waits]):.2f} ms a step")


def measure(config: Config, state: Any, step: Any, *, waits: bool) -> float:
    """Seconds of a step, from the first that is enqueued until the last has ended."""
    marks = []
    reading = read_examples(_example(config.size), np.arange(config.batch_size), batch_size=config.batch_size,
                            epochs=config.steps)  # fmt: skip

    def on_loss(number: int, loss: jax.Array) -> None:
        if waits:
            float(loss)
        marks.append(time.perf_counter())

    def validate(state: Any) -> dict[str, float]:
        jax.block_until_ready(state)
        marks.append(time.perf_counter())
        return {}

    with tempfile.TemporaryDirectory() as folder:
        train(folder, state, iter(reading), step, steps=config.steps, every=config.steps, validate=validate,
              score="step", sharding=batch_sharding(config.batch_size), on_loss=on_loss)  # fmt: skip
    return (marks[-1] - marks[0]) / (config.steps - 1)


def _example(size: int) -> Any:
    rng = np.random.default_rng(0)
    fixed = {
        "maps": rng.uniform(size=(2, size, size)).astype(np.float32),
        "fixations": rng.uniform(0, size - 1, (6, 2)).astype(np.float32),
        "fixation_mask": np.ones(6, bool),
        "sigma_px": np.full(2, 2.0, np.float32),
    }
    return lambda position: fixed


if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.step_time", lambda: main(tyro.cli(Config))))
