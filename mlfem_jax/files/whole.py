"""Files and folders that are whole or not there: written beside their final name, then renamed into place."""

import contextlib
import ctypes
import io
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mlfem_jax.files.errors import naming_full_disk
from mlfem_jax.files.locks import fcntl, locked
from mlfem_jax.files.outputs import note


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file that takes `path`'s place when the block ends, and vanishes if the block fails.

    The temporary file has a name of its own in the same folder, so two processes may write the same path:
    the last to finish wins, and nobody ever reads half a file. It is held while it is written, so that what a killed
    process left is told from what another is writing (`remove_orphans`). In a folder that keeps a record
    (`writing`) the file is noted.

    Args:
        path: the file to write; its folder is made if need be.

    Returns:
        A context manager that gives the file, open for writing and reading. It has no `fileno`.

    Raises:
        OSError: the disk is full, or the file cannot be written; names it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "a.txt") as file:
        ...     _ = file.write(b"whole")
        >>> (folder / "a.txt").read_bytes()
        b'whole'
    """
    path = Path(path)
    with naming_full_disk(path), contextlib.ExitStack() as stack:
        beside, descriptor = _part(path)
        stack.callback(lambda: beside.unlink(missing_ok=True))
        if fcntl is not None:  # elsewhere an open file cannot be renamed, and nobody is kept out
            stack.callback(os.close, os.dup(descriptor))
        with _File(io.FileIO(descriptor, "r+")) as file:
            yield file
        note(path, beside)
        os.replace(beside, path)


def _part(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, and its descriptor, which nobody else has."""
    while True:
        # A character takes up to four bytes, of the 255 that a name may have.
        beside = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.part")
        descriptor = locked(beside)
        if descriptor is not None:
            return beside, descriptor


class _File(io.BufferedRandom):
    """A file that no C library writes to by its number: their errors forget that the disk was full."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def replace_folder(new: Path, folder: Path) -> None:
    """The folder `new` takes the place of `folder`, if that is there, and what was in it is removed.

    A process killed at any moment leaves the one or the other, where the system can exchange two folders in one step
    (Linux and macOS, on most file systems). Elsewhere `restore_folder` puts the old one back.

    Args:
        new: on the same disk.
        folder: not there, or a folder.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("new", "old"):
        ...     (root / name).mkdir()
        ...     _ = (root / name / "which").write_text(name)
        >>> replace_folder(root / "new", root / "old")
        >>> (root / "old" / "which").read_text(), (root / "new").exists()
        ('new', False)
    """
    if not folder.exists():
        os.rename(new, folder)
        return
    if not _exchange(new, folder):
        aside = _aside(folder)
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
        os.rename(new, folder)
        os.rename(aside, new)
    shutil.rmtree(new)


def restore_folder(folder: Path) -> None:
    """Puts back what a process killed within `replace_folder` had moved out of the way."""
    aside = _aside(folder)
    if aside.exists() and not folder.exists():
        os.rename(aside, folder)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Whether the system could exchange two paths in one step."""
    system = ctypes.CDLL(None) if os.name == "posix" else None
    names = os.fsencode(one.absolute()), os.fsencode(other.absolute())
    if sys.platform == "linux" and hasattr(system, "renameat2"):
        return system.renameat2(-1, names[0], -1, names[1], 2) == 0  # RENAME_EXCHANGE
    if sys.platform == "darwin" and hasattr(system, "renamex_np"):
        return system.renamex_np(*names, 2) == 0  # RENAME_SWAP
    return False


def own_checkpointer() -> Any:
    """An orbax checkpointer that waits for no other process: the first one writes, and each reads for itself."""
    import jax
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)
