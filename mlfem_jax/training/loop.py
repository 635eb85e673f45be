"""The loop of every trainer: a run's folder, its checkpoints, its metrics, and batches split over devices.

A run's folder holds `config.json` (with versions, commit and seed), `metrics.jsonl`, `curves.png`, and `checkpoints/`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import NamedSharding

from mlfem_jax.files import replacing
from mlfem_jax.parallel import is_first, put_batch
from mlfem_jax.training.checkpoints import checkpoint_steps, restore_checkpoint, save_checkpoint
from mlfem_jax.training.run import read_metrics

Step = Callable[[Any, Any], tuple[Any, jax.Array]]


@runtime_checkable
class Reader(Protocol):
    """An iterator over batches that knows its place, as Grain's."""

    def __next__(self) -> Any:
        """The next batch."""
        ...

    def get_state(self) -> Any:
        """The position, which `json` can write."""
        ...

    def set_state(self, state: Any, /) -> None:
        """Goes to a position."""
        ...


def train(
    folder: str | Path,
    state: Any,
    batches: Reader,
    step: Step,
    *,
    steps: int,
    every: int,
    validate: Callable[[Any], Mapping[str, float]],
    score: str,
    sharding: tuple[NamedSharding, NamedSharding],
    on_loss: Callable[[int, float], None] = lambda step, loss: None,
    on_scores: Callable[[Mapping[str, float]], None] = lambda scores: None,
) -> Any:
    """The state after the last step; goes on from the newest checkpoint of the folder.

    Every `every` steps, and after the last, it validates, adds the scores to `metrics.jsonl`, and writes a checkpoint
    of the state and of the reader's position. The newest and the best stay. Of several processes, the first writes;
    all must see its folder.

    Args:
        folder: of the run, see `claim`.
        state: before the first step; a pytree of arrays.
        batches: iterator of dicts of arrays, with `get_state` and `set_state`.
        step: (state, batch) to (state, loss).
        steps: in all.
        every: steps from one validation to the next.
        validate: from the state to scores by name.
        score: name of the score of which more is better; it chooses the best checkpoint. "step": the newest is.
        sharding: from `batch_sharding`.
        on_loss: told each step's number and loss.
        on_scores: told each line of `metrics.jsonl`.

    Raises:
        ValueError: a checkpoint is damaged or foreign, by name; a loss that is not finite.
    """
    folder = Path(folder)
    checkpoints, log = folder / "checkpoints", folder / "metrics.jsonl"
    done = max(checkpoint_steps(checkpoints), default=0)
    if done:
        state, position = restore_checkpoint(checkpoints, done, state)
        batches.set_state(position)
    rows = _truncated(log, done)
    over_batch, on_each = sharding
    state = put_batch(state, on_each)
    losses: list[jax.Array] = []
    for number in range(done + 1, steps + 1):
        state, loss = step(state, put_batch(next(batches), over_batch))
        losses.append(loss)
        on_loss(number, float(loss))
        if number % every and number != steps:
            continue
        means = [float(value) for value in losses]
        if not np.isfinite(means).all():
            raise ValueError(f"{folder}: the loss is not finite by step {number}: {means}; try a lower learning rate")
        losses = []
        rows.append({"step": number, "loss": float(np.mean(means)), "losses": means, **validate(state)})
        best = max(rows, key=lambda row: row[score])["step"]
        if is_first():
            # The line first: a process killed in between writes it again, from the older checkpoint.
            _write_rows(log, rows)
            save_checkpoint(checkpoints, number, state, batches.get_state(), keep=(best,))
            on_scores(rows[-1])
    return state


def _truncated(log: Path, done: int) -> list[dict[str, Any]]:
    """The lines up to the step of the checkpoint that the run goes on from."""
    return [row for row in read_metrics(log.parent) if row["step"] <= done]


def _write_rows(log: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(log) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
