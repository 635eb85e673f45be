"""What lies in a folder, links followed and everything left out named."""

import os
import re
import stat
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

SPECIAL = "pipes, sockets and devices (left out)"
NOWHERE = "links that lead nowhere (left out)"
UNREADABLE = "folders that cannot be read (left out)"
"""The kind of `Problems` that such folders are counted as."""
TWICE = "links to a folder that is read already (left out)"
HIDDEN = "hidden files and folders (left out)"
BELOW = "subfolders (left out)"


@dataclass(frozen=True)
class Walked:
    """What a walk found.

    Attributes:
        files: regular files, or links to such, sorted.
        folders: those that were read, the first one included, sorted.
        left_out: why something is in neither, to what is so; sorted.
    """

    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    left_out: Mapping[str, tuple[Path, ...]]


def walk(
    folder: str | os.PathLike,
    suffixes: Collection[str] | None = None,
    *,
    deep: bool = True,
    hidden: bool = False,
    without: Collection[Path] = (),
) -> Walked:
    """The files of a folder, links followed: each folder is read once, so that a circle of links ends.

    A folder that lies here and is linked from here is found where it lies.

    Args:
        folder: where to begin.
        suffixes: in lower case, with their dots; files with another one are left out. Default: every file is taken.
        deep: whether to read subfolders.
        hidden: whether to take what begins with a dot; what is passed over is named.
        without: folders to pass over without naming them.

    Returns:
        Files and folders, each below `folder`, and what was left out, by reason.

    Example:
        >>> import tempfile
        >>> top = Path(tempfile.mkdtemp())
        >>> (top / "again").symlink_to(top)
        >>> list(walk(top).left_out)
        ['links to a folder that is read already (left out)']
    """
    files, folders, left_out = [], [], {}
    here, linked = deque([Path(folder)]), deque()
    unwanted = {_identity(path) for path in without if path.exists()}
    seen = set()
    while here or linked:
        place = here.popleft() if here else linked.popleft()
        try:
            identity = _identity(place)
            if identity in unwanted:
                continue
            if identity in seen:
                left_out.setdefault(TWICE, []).append(place)
                continue
            with os.scandir(place) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            left_out.setdefault(UNREADABLE, []).append(place)
            continue
        seen.add(identity)
        folders.append(place)
        for entry in entries:
            reason = _reason(entry, suffixes, deep, hidden)
            if reason:
                left_out.setdefault(reason, []).append(place / entry.name)
            elif not entry.is_dir():
                files.append(place / entry.name)
            else:
                (linked if entry.is_symlink() else here).append(place / entry.name)
    return Walked(
        tuple(sorted(files)),
        tuple(sorted(folders)),
        {reason: tuple(sorted(paths)) for reason, paths in sorted(left_out.items())},
    )


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _reason(entry: os.DirEntry, suffixes: Collection[str] | None, deep: bool, hidden: bool) -> str | None:
    """Why an entry of a folder is left out; None where it is not."""
    if entry.name.startswith(".") and not hidden:
        return HIDDEN
    try:
        mode = entry.stat().st_mode
    except OSError:
        return NOWHERE
    if stat.S_ISDIR(mode):
        return None if deep else BELOW
    if not stat.S_ISREG(mode):
        return SPECIAL
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffixes is None or suffix in suffixes:
        return None
    return f"{suffix if re.fullmatch(r'[.][a-z][a-z0-9]{,4}', suffix) else 'other'} files (left out)"
