"""Checkpoints of a training run, by orbax: the state and the reader's position, whole or not there.

A checkpoint is a folder `step_00000120` with `state`, `reader` and `checkpoint.json`, the hash of every file. Orbax
writes it in the background, beside its place, and renames it; the hashes are the last that is written before the
rename, so a process killed at any moment leaves either the checkpoint or nothing. They are there because orbax restores
a byte that was changed later in silence.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from mlfem_jax.files import naming_full_disk, own_checkpointer

_KIND = "mlfem_jax training checkpoint"
_NAME = re.compile(r"step_(\d{8})")
_UNSEALED = ("checkpoint.json", "_CHECKPOINT_METADATA", "commit_success.txt")  # orbax writes the last two later
_UNFINISHED = "step_*.orbax-checkpoint-tmp*"


@contextlib.contextmanager
def open_checkpoints(folder: str | Path, like: Any) -> Iterator[ocp.CheckpointManager]:
    """Orbax's manager of a run's checkpoints, which keeps the newest and the best; the last is whole when it closes.

    What a killed process left half written is removed. All processes of a run open, save and close together.

    Args:
        folder: of the run's checkpoints, made if need be.
        like: a pytree of the structure, shapes and dtypes of the states to come.

    Returns:
        A context manager that gives it, for `save_checkpoint`.
    """
    folder, arrays = Path(folder).absolute(), _described(like)

    def seal() -> None:
        (partial,) = folder.glob(_UNFINISHED)
        manifest = {"kind": _KIND, "arrays": arrays, "sha256": _hashes(partial)}
        (partial / "checkpoint.json").write_text(json.dumps(manifest, indent=1))
        _sync(partial)

    def score(found: Any) -> float:
        return found["score"]

    best = checkpoint_managers.BestN(get_metric_fn=score, n=1)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy([checkpoint_managers.LatestN(1), best]),
        best_fn=score,  # the policy overrides it, but without it orbax does not write the scores
        step_name_format=ocp.path.step.standard_name_format(step_prefix="step", step_format_fixed_length=8),
        cleanup_tmp_directories=True,
        async_options=ocp.options.AsyncOptions(post_finalization_callback=seal),
    )
    with naming_full_disk(folder):  # orbax and grain leave it out
        manager = ocp.CheckpointManager(folder, options=options)
        try:
            yield manager
            manager.wait_until_finished()
        finally:
            manager.close()


def save_checkpoint(
    manager: ocp.CheckpointManager, step: int, state: Any, reader: grain.DatasetIterator, *, score: float
) -> None:
    """Begins to write a checkpoint; returns once the state is copied, which may then change.

    Waits for the one before. Older ones are removed when this one is whole, but for the best.

    Args:
        manager: from `open_checkpoints`.
        step: number of training steps done.
        state: a pytree of arrays: parameters, optimizer, random key data, whatever the loop carries.
        reader: the iterator over batches, whose position is kept.
        score: of which more is better; of two that are equal the newer one is the best.

    Raises:
        FileExistsError: there is a checkpoint of that step already.
    """
    if step in manager.all_steps():
        raise FileExistsError(f"{manager.directory}: expected no checkpoint of step {step}, got one already")
    content = ocp.args.Composite(state=ocp.args.StandardSave(state), reader=grain.checkpoint.CheckpointSave(reader))
    manager.save(step, args=content, metrics={"score": float(score)})


def checkpoint_steps(folder: str | Path) -> tuple[int, ...]:
    """Steps of the checkpoints in a folder, ascending; none where there is no such folder.

    Example:
        >>> checkpoint_steps("/nowhere")
        ()
    """
    folder = Path(folder)
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    return tuple(sorted(int(name[1]) for name in names if name))


def restore_checkpoint(folder: str | Path, step: int, like: Any, reader: grain.DatasetIterator | None = None) -> Any:
    """The state of a checkpoint; and brings the reader to its position.

    Args:
        folder: of the run's checkpoints.
        step: which one.
        like: a pytree of the structure, shapes and dtypes that are expected; arrays or `jax.ShapeDtypeStruct`, with
            the sharding where one is wanted.
        reader: an iterator over the same batches, which is moved. Default: none.

    Returns:
        The structure of `like`: where that says a sharding an array on its devices, each of which reads its part; else
        NumPy arrays.

    Raises:
        ValueError: names the checkpoint, if it is truncated or changed, was not written by `save_checkpoint`, or holds
            other arrays than `like`.
    """
    place = Path(folder).absolute() / f"step_{step:08d}"
    manifest = _manifest(place)
    expected = _described(like)
    if manifest["arrays"] != expected:
        unlike = sorted(set(map(str, manifest["arrays"].items())) ^ set(map(str, expected.items())))
        raise ValueError(
            f"{place}: expected a checkpoint of this network, got one of another network, which differs in "
            f"{', '.join(unlike[:6])}"
        )
    with own_checkpointer() as checkpointer:
        state = checkpointer.restore(place / "state", jax.tree.map(_wanted, like))
    if reader is not None:
        _move(reader, place / "reader")
    return state


def _wanted(leaf: Any) -> Any:
    """What orbax makes of it: an array on devices, or one of NumPy."""
    placed = isinstance(leaf, jax.ShapeDtypeStruct) and leaf.sharding is not None
    return leaf if placed else np.zeros(leaf.shape, leaf.dtype)


def _move(reader: grain.DatasetIterator, place: Path) -> None:
    own = place / f"process_{jax.process_index()}-of-{jax.process_count()}.json"
    if own.exists():
        grain.checkpoint.CheckpointHandler().restore(place, reader)  # pyrefly: ignore[bad-argument-type]
    else:  # written by another number of processes; each reads its share of every batch, so all are at the same one
        reader.set_state(json.loads(min(place.glob("process_*.json")).read_text()))


def _manifest(place: Path) -> dict[str, Any]:
    """The checked content of `checkpoint.json`."""
    try:
        manifest = json.loads((place / "checkpoint.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise ValueError(
            f"{place}: expected a checkpoint of this library, got something else, or a damaged one ({error})"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND:
        raise ValueError(
            f"{place}: expected a checkpoint of this library, got a checkpoint.json that does not say {_KIND!r}"
        )
    found = _hashes(place)
    damaged = [name for name, digest in manifest["sha256"].items() if found.get(name) != digest]
    if damaged:
        raise ValueError(
            f"{place}: expected the files that were written, got truncated or changed ones: {', '.join(damaged[:6])}"
        )
    return manifest


def _described(tree: Any) -> dict[str, str]:
    """Path of each leaf to its dtype and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{np.dtype(leaf.dtype)}{tuple(leaf.shape)}" for path, leaf in leaves}


def _hashes(place: Path) -> dict[str, str]:
    names = (str(path.relative_to(place)) for path in sorted(place.rglob("*")) if path.is_file())
    return {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in names if name not in _UNSEALED}


def _sync(place: Path) -> None:
    """Everything on the disk before the rename says that it is."""
    for path in place.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
