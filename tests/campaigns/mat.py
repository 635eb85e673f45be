"""Damaged MATLAB files of every format that is read: `python -m tests.campaigns.mat [COUNT]`."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from mlfem_jax.data.releases.cat2000 import read_cat2000
from mlfem_jax.data.releases.crowd import read_crowd
from mlfem_jax.data.releases.osie import read_osie
from mlfem_jax.data.releases.records import Problems
from mlfem_jax.data.releases.salicon import read_salicon
from mlfem_jax.data.releases.toronto import read_toronto
from tests.campaigns.tables import STEM, check, image
from tests.campaigns.trial import judged, main, mutated

COUNT = 600
VALUES: list[Any] = [
    np.zeros((0, 0)), np.zeros((3, 2)), np.array([[np.nan]]), np.array([[np.inf, -1e300]]), np.array([[1 + 2j]]),
    np.array("text"), np.array(["a", "bc"]), np.zeros((2, 2, 2)), np.empty((0, 0), object), np.array([[{}]]),
    scipy.sparse.csc_matrix(np.eye(3)), scipy.sparse.csc_matrix((10**6, 10**6)), np.array([[True]]), {"other": 1},
    np.uint64(2**64 - 1), -1.0, 0.5, "",
]  # fmt: skip


def cells(items: list[Any]) -> np.ndarray:
    """A MATLAB column cell array."""
    array = np.empty((len(items), 1), object)
    for i, item in enumerate(items):
        array[i, 0] = item
    return array


def osie(folder: Path) -> tuple[Callable, Path, dict[str, Any]]:
    """OSIE's one file of fixations."""
    image(folder / "stimuli/1001.jpg")
    subject = {"fix_x": [1.0, 4.5, 9], "fix_y": [1.0, 8.25, 3], "fix_duration": [100, 250, 90]}
    record = {"img": "1001.jpg", "subjects": cells([subject, dict(subject)])}
    return read_osie, folder / "eye/fixations.mat", {"fixations": cells([record])}


def crowd(folder: Path) -> tuple[Callable, Path, dict[str, Any]]:
    """The labels of Saliency in Crowd."""
    _, eye, content = osie(folder)
    eye.parent.mkdir()
    scipy.io.savemat(eye, content)
    return read_crowd, folder / "labels.mat", {"labels": cells([{"img": "1001.jpg", "nFaces": 17, "faces": cells([])}])}


def salicon(folder: Path) -> tuple[Callable, Path, dict[str, Any]]:
    """The fixations of one image of SALICON."""
    image(folder / f"images/{STEM}.jpg")
    gaze = cells([{"location": np.ones((2, 2)), "fixations": np.array([[1.0, 1], [16, 12], [4, 9]])}])
    return read_salicon, folder / f"fixations/train/{STEM}.mat", {"gaze": gaze, "resolution": np.array([[12, 16]])}


def cat2000(folder: Path) -> tuple[Callable, Path, dict[str, Any]]:
    """The fixations of one image of CAT2000."""
    image(folder / "Stimuli/Action/001.jpg")
    return read_cat2000, folder / "FIXATIONLOCS/Action/001.mat", {"fixLocs": np.eye(12, 16, dtype=np.uint8)}


def toronto(folder: Path) -> tuple[Callable, Path, dict[str, Any]]:
    """The maps of all images of Toronto."""
    image(folder / "Original Image Set/1.jpg")
    return read_toronto, folder / "origfixdata.mat", {"white": cells([np.eye(12, 16, dtype=np.uint8)]).T}


def _swap(content: Any, rng: random.Random) -> Any:
    """One value somewhere in the content is another."""
    if isinstance(content, dict) and content and rng.random() < 0.9:
        key = rng.choice(sorted(content))
        return {**content, key: _swap(content[key], rng)}
    if isinstance(content, np.ndarray) and content.dtype == object and content.size and rng.random() < 0.8:
        changed = content.copy()
        changed.flat[0] = _swap(content.flat[0], rng)
        return changed
    return rng.choice(VALUES)


def trial(seed: int, folder: Path) -> str:
    """A release with a damaged .mat: read into possible records, or refused in one line."""
    rng = random.Random(seed)
    read, path, content = rng.choice((osie, crowd, salicon, cat2000, toronto))(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    if seed % 3 == 0:
        name = rng.choice(sorted(content))
        content[name] = _swap(content[name], rng)
    scipy.io.savemat(path, content, do_compression=rng.random() < 0.3)
    if seed % 3:
        path.write_bytes(mutated(path.read_bytes(), rng))
    return judged(lambda: check(read(folder, Problems())), str(folder))


if __name__ == "__main__":
    main("mat", trial, COUNT)
