"""What experiments look at of a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlfem_jax.data import fold_positions, open_dataset, scan


def first_images(directory: Path, images: int, fold: tuple[int, int] | None = None) -> str | None:
    """The split that holds the first images; of a fold, the part of the data set that holds so many of them.

    Args:
        directory: the prepared data set.
        images: how many; 0 is all, and no split.
        fold: (which, of how many).
    """
    if images == 0:
        return None
    source = open_dataset(directory)
    if fold is not None:
        test = fold_positions(scan(source).groups, fold)
        images = int(sorted(test)[min(images, len(test)) - 1]) + 1
    (split,) = list(source.dataset_info.splits)
    return f"{split}[:{images}]"


def padded_fixations(record: Mapping[str, Any], most: int) -> tuple[np.ndarray, np.ndarray]:
    """(most, 2) fixations of a record and (most,) their observers, -1 where there is none: of one shape for all."""
    fixations, observers = np.zeros((most, 2), np.float32), np.full(most, -1, np.int32)
    count = len(record["fixations"])
    fixations[:count], observers[:count] = record["fixations"], record["observers"]
    return fixations, observers
