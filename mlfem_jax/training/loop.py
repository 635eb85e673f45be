"""The loop of every trainer: a run's folder, its checkpoints, its metrics, and batches split over devices.

A run's folder holds `run.json` (with versions, commit and seed), `metrics.jsonl`, `curves.png`, and `checkpoints/`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.tree_util import Partial

from mlfem_jax.files import replacing
from mlfem_jax.parallel import is_first, put_batch
from mlfem_jax.training.checkpoints import checkpoint_steps, open_checkpoints, restore_checkpoint, save_checkpoint
from mlfem_jax.training.run import read_metrics
from mlfem_jax.training.step import make_state, state_shapes

Step = Callable[[Any, Any], tuple[Any, jax.Array]]


def train(
    folder: str | Path,
    initial: Partial,
    batches: grain.DatasetIterator,
    step: Step,
    *,
    steps: int,
    every: int,
    validate: Callable[[Any], Mapping[str, float]],
    score: str,
    sharding: tuple[NamedSharding, NamedSharding],
    on_loss: Callable[[int, jax.Array], None] = lambda step, loss: None,
    on_scores: Callable[[Mapping[str, float]], None] = lambda scores: None,
) -> Any:
    """The state after the last step; goes on from the newest checkpoint of the folder.

    Every `every` steps, and after the last, it validates, adds the scores to `metrics.jsonl`, and begins to write a
    checkpoint of the state and of the reader's position. The newest and the best stay. Of several processes, the first
    writes the metrics, and each its parts of the state; all must see the folder.

    In between it only enqueues: the losses stay on the device, which is never waited for, so that it has the next step
    before it is done with the last (JAX itself lets some 32 steps wait).

    Args:
        folder: of the run, see `claim`.
        initial: what makes the state before the first step, a pytree of arrays; see `make_state`.
        batches: Grain's iterator over dicts of arrays.
        step: (state, batch) to (state, loss); it may take the state's memory.
        steps: in all.
        every: steps from one validation to the next.
        validate: from the state to scores by name.
        score: name of the score of which more is better; it chooses the best checkpoint. "step": the newest is.
        sharding: from `batch_sharding`.
        on_loss: told each step's number and loss as soon as it is enqueued; who reads that loss waits for it.
        on_scores: told each line of `metrics.jsonl`.

    Raises:
        ValueError: a checkpoint is damaged or foreign, by name; a loss, or a score that chooses, that is not finite.
    """
    folder = Path(folder)
    checkpoints, log = folder / "checkpoints", folder / "metrics.jsonl"
    done = max(checkpoint_steps(checkpoints), default=0)
    over_batch, on_each = sharding
    if done:
        state = restore_checkpoint(checkpoints, done, state_shapes(initial, on_each), batches)
    else:
        state = make_state(initial, on_each)
    rows = [row for row in read_metrics(folder) if row["step"] <= done]
    losses: list[jax.Array] = []
    with open_checkpoints(checkpoints, state) as manager:
        for number in range(done + 1, steps + 1):
            state, loss = step(state, put_batch(next(batches), over_batch))
            losses.append(loss)
            on_loss(number, loss)
            if number % every and number != steps:
                continue
            rows.append({"step": number, **_finite(losses, folder, number), **validate(state)})
            losses = []
            if not np.isfinite(rows[-1][score]):
                raise ValueError(f"{folder}: {score} at step {number}: expected a number, got {rows[-1][score]}")
            if is_first():
                # The line first: a process killed in between writes it again, from the older checkpoint.
                _write_rows(log, rows)
            save_checkpoint(manager, number, state, batches, score=float(rows[-1][score]))
            if is_first():
                on_scores(rows[-1])
    return state


def _finite(losses: Sequence[jax.Array], folder: Path, step: int) -> dict[str, Any]:
    """The losses since the last report, and their mean: here the device is waited for."""
    values = [float(value) for value in jax.device_get(losses)]
    if not np.isfinite(values).all():
        raise ValueError(f"{folder}: expected a finite loss by step {step}, got {values}; try a lower learning rate")
    return {"loss": float(np.mean(values)), "losses": values}


def _write_rows(log: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(log) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
