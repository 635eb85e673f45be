"""Reads the datasets of an HDF5 file that lie in that file, as numbers that are written there."""

import contextlib
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlfem_jax.files.limits import DEPTH, ENTRIES, allowance, check_sizes, shown

_SHUFFLE, _DEFLATE = 2, 1  # numbers of HDF5's filters
_LINKS = 20_000  # groups and datasets, of which h5py opens some 6,000 in a second; Keras' largest files have 5,000
_PARTS = 1000  # of a list of names that does not fit into one attribute: each has up to 64 kB


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every group and every dataset of an HDF5 file, by its path from the root.

    HDF5 can name other files, as links, as storage and as virtual datasets, and itself; what does is refused. The tree
    is walked group by group, never by a path from the root, which HDF5 would resolve anew each time.

    Args:
        path: the file.

    Returns:
        A context manager that gives (groups, datasets) of h5py; the root group is called "".

    Raises:
        ValueError: a link, a group that is in two places, groups that are too deep or too many. Errors of h5py pass:
            the caller names the file.
    """
    import h5py

    with h5py.File(path, "r") as file:
        groups: dict[str, Any] = {}
        datasets: dict[str, Any] = {}
        seen, waiting, left = set(), [("", file)], _LINKS
        while waiting:
            place, group = waiting.pop()
            if group in seen or place.count("/") > DEPTH:
                raise ValueError(
                    f"group {shown(place)}: expected one place, at most {DEPTH} deep, got two places or a deeper one"
                )
            seen.add(group)  # h5py tells groups apart by their place in the file
            groups[place] = group
            for name in group:
                if (left := left - 1) < 0:
                    raise ValueError(f"expected at most {_LINKS} groups and datasets, got more")
                inner = f"{place}/{name}" if place else name
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"{shown(inner)}: expected a group or dataset, got a link to elsewhere; refused")
                found = group[name]
                if isinstance(found, h5py.Group):
                    waiting.append((inner, found))
                elif isinstance(found, h5py.Dataset):
                    datasets[inner] = found
        yield groups, datasets


def read_datasets(datasets: Mapping[str, Any], present: int) -> dict[str, np.ndarray]:
    """The values of datasets, whose declared sizes are compared with what is stored before any is read.

    Args:
        datasets: of h5py, by name.
        present: bytes of the file.

    Raises:
        ValueError: one that is virtual, lies in another file, holds no numbers, or is not written in full.
    """
    for name, dataset in datasets.items():
        if dataset.is_virtual or dataset.external:
            raise ValueError(
                f"{shown(name)}: expected values of its own, got those of another file or dataset; refused"
            )
        if dataset.shape is None:
            raise ValueError(f"{shown(name)}: expected numbers, got no values")
    packed = any(dataset.chunks for dataset in datasets.values())
    check_sizes(((name, dataset.shape, dataset.dtype) for name, dataset in datasets.items()), present, packed=packed)
    for name, dataset in datasets.items():
        _check_stored(shown(name), dataset, allowance(present, packed=True))
    return {name: dataset[()] for name, dataset in datasets.items()}


def read_names(group: Any, key: str, present: int) -> list[str]:
    """The texts in an attribute of a group, which Keras cuts into "key0", "key1", ... where they are many.

    Raises:
        ValueError: there is none, or it declares more than the file can hold.
    """
    keys = [key] if key in group.attrs else []
    while not keys[:1] == [key] and f"{key}{len(keys)}" in group.attrs and len(keys) < _PARTS:
        keys.append(f"{key}{len(keys)}")
    if not keys:
        raise ValueError(f"expected the attribute {key}, got none")
    texts: list[str] = []
    for part in keys:
        attribute = group.attrs.get_id(part)
        count = math.prod(attribute.shape)
        if count > ENTRIES or count * attribute.dtype.itemsize > present:
            raise ValueError(f"attribute {part}: expected names that can be there, got {count} declared")
        texts += [text.decode() if isinstance(text, bytes) else str(text) for text in np.ravel(group.attrs[part])]
    return texts


def _check_stored(name: str, dataset: Any, room: int) -> None:
    """All that the dataset declares is written: HDF5 would make up the rest from a fill value."""
    if not dataset.chunks:
        if dataset.id.get_storage_size() != dataset.nbytes:
            raise ValueError(
                f"{name}: expected the {dataset.nbytes} bytes it declares, got {dataset.id.get_storage_size()}"
            )
        return
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    if filters not in ([], [_DEFLATE], [_SHUFFLE, _DEFLATE], [_SHUFFLE]):
        raise ValueError(f"{name}: expected no filters of HDF5 but shuffle and deflate, got {filters}")
    places: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(lambda chunk: places.append(chunk.chunk_offset))
    needed = math.prod(-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if len(set(places)) != needed or len(places) != needed or needed * size > room:
        raise ValueError(f"{name}: expected the {needed} chunks of {size} bytes it declares, got {len(set(places))}")
    for place in places if _DEFLATE in filters else ():
        # HDF5 inflates a chunk to its end, however long: a few kilobytes can hold gigabytes.
        skipped, data = dataset.id.read_direct_chunk(place)
        if not skipped and len(zlib.decompressobj().decompress(data, size + 1)) != size:
            raise ValueError(f"{name}: expected chunks that unfold to {size} bytes, got one that does not")
