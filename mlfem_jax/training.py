"""The loop of every trainer: a run's folder, its checkpoints, its metrics, and batches split over devices.

A run's folder holds `config.json` (with versions, commit and seed), `metrics.jsonl`, `curves.png`, and `checkpoints/`.
"""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mlfem_jax.checkpoint import checkpoint_steps, restore_checkpoint, save_checkpoint
from mlfem_jax.distributed import is_first
from mlfem_jax.files import replacing

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")

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


def open_run(folder: str | Path, config: Mapping[str, Any], *, resume: bool = True) -> None:
    """A run's folder, made with `config.json` where it is new, and checked where it holds a run.

    Args:
        folder: of the run.
        config: all settings, which `json` can write.
        resume: go on with the run that the folder holds, if it has the same settings.

    Raises:
        FileExistsError: the folder holds a run and `resume` is False.
        ValueError: it holds a run of other settings; shows them side by side.
    """
    path, config = Path(folder) / "config.json", json.loads(json.dumps(config))
    if path.exists():
        if not resume:
            raise FileExistsError(f"{folder}: holds a run already; choose another folder, or let it resume")
        found = json.loads(path.read_bytes())["config"]
        different = [
            f"  {name}: {found.get(name)!r} there, {config.get(name)!r} asked for"
            for name in sorted(set(found) | set(config))
            if found.get(name) != config.get(name)
        ]
        if different:
            raise ValueError("\n".join([f"{folder}: holds a run of another config:", *different]))
        return
    if is_first():
        with replacing(path) as file:
            file.write(json.dumps({"config": config, **provenance()}, indent=1).encode())


def provenance() -> dict[str, Any]:
    """Versions, commit and machine: what a result needs beside its config to be made again.

    Example:
        >>> sorted(provenance())
        ['commit', 'devices', 'python', 'versions']
    """
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    return {
        "commit": found.stdout.strip() if found.returncode == 0 else None,  # none where it was installed
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "devices": [device.device_kind for device in jax.local_devices()],
    }


def batch_sharding(batch_size: int, devices: Sequence[jax.Device] | None = None) -> tuple[NamedSharding, NamedSharding]:
    """(of a batch, of the state): batches split along their first axis over all devices, the state on each.

    Args:
        batch_size: examples in a batch of all processes together.
        devices: default: all, of all processes.

    Raises:
        ValueError: the batch does not split evenly.
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % len(devices):
        raise ValueError(f"batch_size: expected a multiple of the {len(devices)} devices, got {batch_size}")
    mesh = Mesh(np.array(devices), ("data",))
    return NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())


def put_batch(batch: Any, sharding: NamedSharding) -> Any:
    """The arrays on the devices, each process having given its own share of the batch.

    Args:
        batch: a pytree of NumPy arrays: this process's examples.
        sharding: of the batch of all processes, from `batch_sharding`.

    Returns:
        A pytree of arrays of the whole batch: the examples of the first process, then those of the next.
    """
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch)


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
        folder: of the run, see `open_run`.
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


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`."""
    path = Path(folder) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def plot_curves(folder: str | Path) -> Path:
    """The picture `curves.png` of a run: the loss, and each score, over the steps."""
    import matplotlib.figure

    rows = read_metrics(folder)
    names = [name for name in rows[0] if name not in ("step", "loss", "losses", "seconds")]
    figure = matplotlib.figure.Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    every_loss = [loss for row in rows for loss in row["losses"]]
    left.plot(range(1, len(every_loss) + 1), every_loss, color="0.8", label="each step")
    left.plot([row["step"] for row in rows], [row["loss"] for row in rows], marker=".", label="mean since the last")
    left.set(xlabel="step", ylabel="training loss")
    for name in names:
        right.plot([row["step"] for row in rows], [row[name] for row in rows], marker=".", label=name)
    right.set(xlabel="step", ylabel="score")
    for axes in (left, right) if names else (left,):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    path = Path(folder) / "curves.png"
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return path


def _truncated(log: Path, done: int) -> list[dict[str, Any]]:
    """The lines up to the step of the checkpoint that the run goes on from."""
    return [row for row in read_metrics(log.parent) if row["step"] <= done]


def _write_rows(log: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(log) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
