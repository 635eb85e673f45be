"""Parts of a data set that experiments look at."""

from pathlib import Path

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
