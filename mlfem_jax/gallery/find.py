"""The photographs that a command line names: files, folders, patterns."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlfem_jax.photos import PHOTO_SUFFIXES


def find_photos(arguments: Iterable[str | os.PathLike]) -> list[Path]:
    """The image files that a command line's arguments name, in natural order (img2 before img10), each once.

    A file is taken whatever its suffix. A folder stands for the images in it and in its subfolders, by
    suffix (`PHOTO_SUFFIXES`), hidden ones excepted. A pattern (`*`, `?`, `[...]`, `**` across folders)
    stands for what it matches. An argument that names nothing is kept as it is, so that reading it says
    what is wrong with it.

    Args:
        arguments: files, folders and patterns.

    Returns:
        The files, ordered by path; the same file reached in two ways appears once. No arguments, no files.

    Example:
        >>> [str(path) for path in find_photos(["img10.png", "img2.png"])]
        ['img2.png', 'img10.png']
    """
    found = {path.resolve(): path for argument in arguments for path in _matches(Path(argument))}
    return sorted(found.values(), key=_natural)


def _matches(path: Path) -> Iterator[Path]:
    if path.is_dir():
        photos = [
            file
            for file in path.rglob("*")
            if file.suffix.lower() in PHOTO_SUFFIXES
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        yield from photos or [path]
    elif not path.exists() and (matched := glob.glob(str(path), recursive=True)):
        for match in matched:
            yield from _matches(Path(match))
    else:
        yield path


def _natural(path: Path) -> tuple[list[str | int], str]:
    # Splitting on digits puts text at even and numbers at odd places, so the two are never compared.
    parts = re.split(r"(\d+)", str(path).casefold())
    return [int(part) if part.isdecimal() else part for part in parts], str(path)
