"""The photographs that a command line names: files, folders, patterns."""

import glob
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from mlfem_jax.files import NOWHERE, UNREADABLE, Walked, printable, walk
from mlfem_jax.photos import PHOTO_SUFFIXES

Tell = Callable[[str, bool], object]
UNREAD_SUFFIXES = frozenset(".arw .cr2 .cr3 .dng .heic .heif .hif .jxl .nef .orf .raf .rw2".split())
"""Of photographs that are not read."""


def find_photos(
    arguments: Iterable[str | os.PathLike],
    *,
    on_left_out: Tell = lambda line, lost: None,
    suffixes: Collection[str] = PHOTO_SUFFIXES,
) -> list[Path]:
    """The image files that a command line's arguments name, in natural order (img2 before img10), each once.

    A file is taken whatever its suffix. A folder stands for the images in it and in its subfolders, by
    suffix (`PHOTO_SUFFIXES`), hidden ones excepted; links are followed. A pattern (`*`, `?`, `[...]`, `**` across
    folders) stands for what it matches. An argument that names nothing is kept as it is, so that reading it says
    what is wrong with it.

    Args:
        arguments: files, folders and patterns.
        on_left_out: told, a line for each folder and reason, what in a folder is left out, and whether that may be
            photographs: of a kind that is not read (`UNREAD_SUFFIXES`), in a subfolder that cannot be, behind a link
            that leads nowhere.
        suffixes: of what a folder stands for.

    Returns:
        The files, ordered by path; the same file reached in two ways appears once. No arguments, no files.

    Raises:
        ValueError: an argument is empty, as that of a variable of the shell that is not set.

    Example:
        >>> [str(path) for path in find_photos(["img10.png", "img2.png"])]
        ['img2.png', 'img10.png']
    """
    arguments = [os.fspath(argument) for argument in arguments]
    if "" in arguments:
        raise ValueError("photos: expected files, folders or patterns, got an empty name")
    found = {_real(path): path for argument in arguments for path in _matches(Path(argument), on_left_out, suffixes)}
    return sorted(found.values(), key=_natural)


def _matches(path: Path, on_left_out: Tell, suffixes: Collection[str]) -> Iterator[Path]:
    if path.is_dir():
        found = walk(path, suffixes)
        for kind in found.left_out:
            lost = kind in (UNREADABLE, NOWHERE) or found.left_out[kind][0].suffix.lower() in UNREAD_SUFFIXES
            on_left_out(_counted(path, found, kind), lost)
        yield from found.files or [path]
    elif not os.path.lexists(path) and (matched := sorted(_expand(str(path), on_left_out))):
        for match in matched:
            yield from _matches(Path(match), on_left_out, suffixes)
    else:
        yield path


def _counted(folder: Path, found: Walked, kind: str) -> str:
    left = found.left_out[kind]
    return f"{printable(folder)}: {len(left)} {kind}, first {printable(left[0].relative_to(folder))}"


def _expand(pattern: str, on_left_out: Tell) -> set[str]:
    """What a pattern matches. `**` is every folder once: Python's own would go round in a circle of links."""
    head, stars, tail = pattern.partition("**")
    if not stars or not tail.startswith("/") or not (head == "" or head.endswith("/")):
        return set(glob.glob(pattern))
    tops = glob.glob(head) if head else ["."]
    matches: set[str] = set()
    for top in map(Path, tops):
        found = walk(top)
        if UNREADABLE in found.left_out:
            on_left_out(_counted(top, found, UNREADABLE), True)
        for folder in found.folders:
            matches |= _expand(os.path.join(glob.escape(str(folder)), tail.lstrip("/")), on_left_out)
    return matches


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return path.absolute()


def _natural(path: Path) -> tuple[list[str | int], str]:
    # Splitting on digits puts text at even and numbers at odd places, so the two are never compared.
    parts = re.split(r"(\d+)", str(path).casefold())
    return [int(part) if part.isdecimal() else part for part in parts], str(path)
