"""Checkpoints of a training run: a pytree of arrays by orbax, and the reader's position, whole or not there.

A checkpoint is a folder `step_00000120` that holds the arrays, `position.json`, and `checkpoint.json` with the hash of
every file. It is written beside its place and renamed into it, so a process killed at any moment leaves either the
checkpoint or nothing; and one that was cut or changed later is refused by name.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mlfem_jax.files import own_checkpointer

_KIND = "mlfem_jax training checkpoint"
_NAME = re.compile(r"step_(\d{8})")


def save_checkpoint(folder: str | Path, step: int, state: Any, position: Any, *, keep: tuple[int, ...] = ()) -> Path:
    """The folder of the checkpoint just written; older ones are removed, but for the steps in `keep`.

    Args:
        folder: of the run's checkpoints.
        step: number of training steps done.
        state: a pytree of arrays: parameters, optimiser, random key data, whatever the loop carries.
        position: of the reader, which `json` can write.
        keep: steps of older checkpoints that stay.

    Raises:
        FileExistsError: there is a checkpoint of that step already.
    """
    folder = Path(folder).absolute()
    final, partial = folder / f"step_{step:08d}", folder / f".step_{step:08d}.part"
    if final.exists():
        raise FileExistsError(f"{final}: there is a checkpoint of that step already")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir(parents=True)
    with own_checkpointer() as checkpointer:
        checkpointer.save(partial / "state", jax.tree.map(np.asarray, jax.device_get(state)))
    (partial / "position.json").write_text(json.dumps(_jsonable(position)))
    manifest = {"kind": _KIND, "step": step, "arrays": _described(state), "sha256": _hashes(partial)}
    (partial / "checkpoint.json").write_text(json.dumps(manifest, indent=1))
    _sync(partial)
    os.replace(partial, final)
    for other in checkpoint_steps(folder):
        if other != step and other not in keep:
            shutil.rmtree(folder / f"step_{other:08d}")
    return final


def checkpoint_steps(folder: str | Path) -> tuple[int, ...]:
    """Steps of the checkpoints in a folder, ascending; none where there is no such folder.

    Example:
        >>> checkpoint_steps("/nowhere")
        ()
    """
    folder = Path(folder)
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    return tuple(sorted(int(name[1]) for name in names if name))


def restore_checkpoint(folder: str | Path, step: int, like: Any) -> tuple[Any, Any]:
    """The state and the reader's position of a checkpoint.

    Args:
        folder: of the run's checkpoints.
        step: which one.
        like: a pytree of the structure, shapes and dtypes that are expected; arrays or `jax.ShapeDtypeStruct`.

    Returns:
        (state as NumPy arrays in the structure of `like`, position).

    Raises:
        ValueError: names the checkpoint, if it is truncated or changed, was not written by `save_checkpoint`, or holds
            other arrays than `like`.
    """
    place = Path(folder).absolute() / f"step_{step:08d}"
    manifest = _manifest(place)
    expected = _described(like)
    if manifest["arrays"] != expected:
        unlike = sorted(set(map(str, manifest["arrays"].items())) ^ set(map(str, expected.items())))
        raise ValueError(f"{place}: a checkpoint of another network; these arrays differ: {', '.join(unlike[:6])}")
    abstract = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    with own_checkpointer() as checkpointer:
        state = checkpointer.restore(place / "state", abstract)
    return state, json.loads((place / "position.json").read_text())


def _manifest(place: Path) -> dict[str, Any]:
    """The checked content of `checkpoint.json`."""
    try:
        manifest = json.loads((place / "checkpoint.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise ValueError(f"{place}: not a checkpoint of this library, or a damaged one ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND:
        raise ValueError(f"{place}: not a checkpoint of this library: checkpoint.json does not say {_KIND!r}")
    found = _hashes(place)
    damaged = [name for name, digest in manifest["sha256"].items() if found.get(name) != digest]
    if damaged:
        raise ValueError(f"{place}: truncated or changed since it was written: {', '.join(damaged[:6])}")
    return manifest


def _described(tree: Any) -> dict[str, str]:
    """Path of each leaf to its dtype and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{np.dtype(leaf.dtype)}{tuple(leaf.shape)}" for path, leaf in leaves}


def _hashes(place: Path) -> dict[str, str]:
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.name != "checkpoint.json")
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _sync(place: Path) -> None:
    """Everything on the disk before the rename says that it is."""
    for path in place.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _jsonable(position: Any) -> Any:
    """Grain gives NumPy integers among its counters."""
    if isinstance(position, dict):
        return {name: _jsonable(value) for name, value in position.items()}
    return position.item() if isinstance(position, np.generic) else position
