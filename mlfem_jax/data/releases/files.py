"""Finding and reading the files of a release; errors name the file, what was expected and what was found."""

import json
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from mlfem_jax.files import printable
from mlfem_jax.photos import stored_size

MOST = 2**31 - 1
"""The largest count that a record can hold."""


def find_root(
    source: Path, layouts: tuple[tuple[str, ...], ...], *, subfolders: tuple[str, ...], instructions: str
) -> Path:
    """The folder at or below `source` that holds every path of one layout.

    Args:
        source: the folder that the user named.
        layouts: each a tuple of paths that must all exist below the root.
        subfolders: where the root may lie below `source`, in the order they are tried.
        instructions: what to show where nothing fits.

    Returns:
        The first `source / subfolder` that fits.

    Raises:
        FileNotFoundError: no folder fits; says what was looked for, and what the nearest one lacks.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: expected a folder, got none. {instructions}")
    tried = []
    for root in (source / subfolder for subfolder in subfolders):
        for layout in layouts:
            missing = [path for path in layout if not (root / path).exists()]
            if not missing:
                return root
            tried.append((len(missing) / len(layout), root, missing))
    _, root, missing = min(tried, key=lambda found: found[0])
    looked_for = " or ".join(" + ".join(layout) for layout in layouts)
    where = ", ".join(dict.fromkeys(str(root) for _, root, _ in tried))
    raise FileNotFoundError(
        f"{where}: expected {looked_for}, got {root} without {', without '.join(missing)}. {instructions}"
    )


def named(path: Path) -> str:
    """How a file is called in an error: on one line, without what would steer a terminal."""
    return printable(path)


def check_file(path: Path, purpose: str) -> None:
    """Refuses what is no regular file, nor a link to one: a pipe would be read for ever.

    Raises:
        FileNotFoundError: there is nothing at `path`; says its `purpose`.
        ValueError: there is a folder, a pipe, a socket or a device.
    """
    if not path.exists():
        raise FileNotFoundError(f"{named(path)}: expected a file, got none; {purpose}")
    if not path.is_file():
        raise ValueError(f"{named(path)}: expected a file, got a folder, a pipe, a socket or a device")


def read_text(path: Path) -> str:
    """The text of a file; ValueError naming it where it is not UTF-8, or no file."""
    check_file(path, "it should hold text")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{named(path)}: expected UTF-8 text, got other bytes ({error})") from error


def load_json(path: Path) -> Any:
    """The content of a JSON file; ValueError naming it where it is damaged."""
    check_file(path, "it should hold JSON")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{named(path)}: expected a whole JSON file, got another, perhaps truncated ({error})"
        ) from error


def image_size(encoded: bytes, path: Path) -> tuple[int, int]:
    """(height, width) in pixels of an image that decodes to its end; ValueError naming a damaged `path`."""
    return stored_size(encoded, name=named(path))[0]


def structs(array: np.ndarray, where: str) -> Iterator[np.void]:
    """The structs of a MATLAB cell array of 1x1 structs, or of a struct array: releases use both.

    Raises:
        ValueError: an empty cell, or one that holds something else; names it, `where` being the array.
    """
    for i, item in enumerate(array.ravel(), start=1):
        struct = item.ravel()[0] if isinstance(item, np.ndarray) and item.size == 1 else item
        if not isinstance(struct, np.void):
            raise ValueError(f"{where}, element {i}: expected a struct, got {_brief(item)}")
        yield struct


def field(record: Any, name: str, where: str) -> np.ndarray:
    """Field `name` of a MATLAB struct; ValueError naming the record (`where`) where there is none."""
    names = getattr(getattr(record, "dtype", None), "names", None) or ()
    if name not in names:
        raise ValueError(f"{where}: expected the field {name!r}, got {', '.join(names) or 'no struct'}")
    return np.asarray(record[name])


def text(record: Any, name: str, where: str) -> str:
    """Field `name` as a string; ValueError naming the record (`where`) where it is not exactly one."""
    values = field(record, name, where)
    if values.size != 1 or values.dtype.kind != "U":
        raise ValueError(f"{where}, field {name!r}: expected one string, got {_brief(values)}")
    return str(values.item())


def count(record: Any, name: str, where: str) -> int:
    """Field `name` as one whole number; ValueError naming the record (`where`) where it is something else."""
    values = column(record, name, where)
    if values.size != 1 or not 0 <= values[0] <= MOST or values[0] % 1:
        raise ValueError(f"{where}, field {name!r}: expected one whole number of 0 or more, got {_brief(values)}")
    return int(values[0])


def column(record: Any, name: str, where: str) -> np.ndarray:
    """Field `name` as a flat float64 array; ValueError naming the record where it holds no numbers."""
    return numbers(field(record, name, where), f"{where}, field {name!r}")


def numbers(values: Any, what: str) -> np.ndarray:
    """`values` as a flat float64 array; ValueError saying `what` they are where they hold no real numbers."""
    values = np.asarray(values)
    if values.size and values.dtype.kind not in "biuf":
        raise ValueError(f"{what}: expected numbers, got {_brief(values)}")
    return np.zeros(0) if values.size == 0 else values.ravel().astype(float)


def mask(values: Any, what: str) -> Bool[np.ndarray, "H W"]:
    """A map of fixations as what is set in it; ValueError saying `what` it is where it is no map of real numbers."""
    values = np.asarray(values)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(numbers(values, what)).all():
        raise ValueError(f"{what}: expected a map of finite numbers, (height, width), got {_brief(values)}")
    return values != 0


def _brief(value: Any) -> str:
    """A value in an error, on one line that has an end."""
    if isinstance(value, np.ndarray) and value.size != 1:
        return f"an array of shape {value.shape} of {value.dtype if value.dtype.names is None else 'structs'}"
    return printable(reprlib.repr(value.item() if isinstance(value, np.ndarray) else value))
