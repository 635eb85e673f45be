"""Reads the arrays of an orbax folder, and nothing outside of it."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlfem_jax.files import DEPTH, ENTRIES, check_sizes, read_json, shown

METADATA = "_METADATA"
_SMALL_CHUNK = 2**20
_ARRAYS = {"np.ndarray", "jax.Array", "scalar", "int", "float"}


def read_orbax_folder(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of an orbax folder, by their keys joined with ".".

    Its files are read into memory first, and TensorStore reads from there: no link, pipe or key in the folder can lead
    it elsewhere.

    Args:
        folder: with `_METADATA` and the arrays in it, in the layouts OCDBT, Zarr and Zarr 3.

    Returns:
        Arrays by name.

    Raises:
        ValueError: it holds anything but files, folders and arrays, or not all of them. Errors of TensorStore pass: the
            caller names the folder.
    """
    import tensorstore

    files = _files(folder)
    about = read_json(folder / METADATA)
    names = _names(about["tree_metadata"])
    context = tensorstore.Context()
    memory = tensorstore.KvStore.open({"driver": "memory"}, context=context).result()
    for name, file in files.items():
        memory.write(name.encode(), file.read_bytes()).result()
    stores = {
        name: tensorstore.open(_spec(name, about), open=True, read=True, context=context).result() for name in names
    }
    present = sum(file.stat().st_size for file in files.values())
    check_sizes(
        ((name, tuple(store.shape), store.dtype.numpy_dtype) for name, store in stores.items()), present, packed=True
    )
    for name, store in stores.items():
        _check_chunks(name, store)
    return {name: np.asarray(store.read().result()) for name, store in stores.items()}


def _files(folder: Path) -> dict[str, Path]:
    """Every file in the folder by its name from there."""
    files, folders = {}, [(folder, "")]
    while folders:
        place, prefix = folders.pop()
        for entry in os.scandir(place):
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append((Path(entry.path), f"{name}/"))
            elif entry.is_file(follow_symlinks=False):
                files[name] = Path(entry.path)
            else:
                raise ValueError(
                    f"{shown(name)}: expected a file or folder, got neither; links, pipes and devices are refused"
                )
            if len(files) + len(folders) > ENTRIES or name.count("/") > DEPTH:
                raise ValueError(f"expected at most {ENTRIES} files, {DEPTH} folders deep, got more")
    return files


def _names(tree: Mapping[str, Any]) -> list[str]:
    names = []
    for entry in tree.values():
        name = ".".join(str(part["key"]) for part in entry["key_metadata"])
        value = entry["value_metadata"]
        if value.get("skip_deserialize"):
            continue  # an empty dict or list, or None
        if value["value_type"] not in _ARRAYS:
            raise ValueError(f"{shown(name)!r}: expected an array, got a {shown(value['value_type'])}")
        names.append(name)
    if len(set(names)) < len(names):
        raise ValueError("expected arrays of distinct names, got two of one name")
    return names


def _spec(name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    store = {"driver": "ocdbt", "base": "memory://"} if about.get("use_ocdbt", True) else {"driver": "memory"}
    return {
        "driver": "zarr3" if about.get("use_zarr3") else "zarr",
        "kvstore": {**store, "path": f"{name}/"},
        # Where orbax writes every chunk, one that is not there is lost.
        "fill_missing_data_reads": not about.get("store_array_data_equal_to_fill_value", False),
    }


def _check_chunks(name: str, store: Any) -> None:
    """A chunk is decoded whole, whatever the array needs of it."""
    layout, itemsize = store.chunk_layout, store.dtype.numpy_dtype.itemsize
    for chunk in (layout.read_chunk.shape, layout.write_chunk.shape):
        size = math.prod(chunk or ()) * itemsize
        if size > max(2 * math.prod(store.shape) * itemsize, _SMALL_CHUNK):
            raise ValueError(
                f"{shown(name)}: expected chunks to fit the shape {tuple(store.shape)}, got some of {size} bytes"
            )
