"""Files that a process holds while it lives: the system lets go of them when it dies, however it dies."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PART = re.compile(r"\..+\.[0-9a-f]{32}\.part")
"""Names of the files that `replacing` writes beside their final place."""


def locked(path: Path, *, shared: bool = False) -> int | None:
    """A descriptor of a file, made if need be with its folder, that keeps others out until it is closed.

    Where the system or the file system has no locks, it keeps nobody out.

    Args:
        path: the file.
        shared: others may share it, but nobody has it alone.

    Returns:
        None where another process has it.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the folder has just been removed
            continue
        try:
            _lock(descriptor, shared=shared)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # there are no locks
            return descriptor
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)  # it was removed before it was locked


@contextlib.contextmanager
def holding(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Holds a file for the length of a block, with the name of this process in it, and then removes it.

    Returns:
        A context manager that gives False where another process has the file, see `holder`.
    """
    descriptor = locked(path, shared=shared)
    if descriptor is None:
        yield False
        return
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {_host()}".encode())
        yield True
    finally:
        if not shared or _alone(descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def holder(path: Path) -> str:
    """The process that holds a file, in words."""
    try:
        return path.read_text() or "another process"
    except OSError:  # it has just ended
        return "another process"


def remove_orphans(folder: Path) -> int:
    """Removes what killed processes had half written in a folder; returns how many files.

    Only files that `replacing` made, and that no living process holds. Where there are no locks, none.
    """
    found = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        if not PART.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError):  # gone, held, or without locks
            descriptor = os.open(path, os.O_RDWR)
            try:
                _lock(descriptor)
                path.unlink()
                found += 1
            finally:
                os.close(descriptor)
    return found


def _lock(descriptor: int, *, shared: bool = False) -> None:
    """Locks an open file, or raises BlockingIOError where another process has it, OSError where there are no locks."""
    if fcntl is None:
        raise OSError("this system has no locks")
    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _alone(descriptor: int) -> bool:
    try:
        _lock(descriptor)
        return True
    except OSError:
        return False


def _host() -> str:
    import platform

    return platform.node() or "this machine"
