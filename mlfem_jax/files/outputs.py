"""A folder that a command writes into: by itself alone, and never over a file that this program did not make.

`.mlfem.jsonl` in the folder notes each file that was written there, with its size and time of change; `replacing` adds
a line wherever it finds one. `.mlfem.lock` is there while a process writes.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlfem_jax.files.errors import naming_full_disk
from mlfem_jax.files.locks import holder, holding, remove_orphans

RECORD, LOCK = ".mlfem.jsonl", ".mlfem.lock"


@contextlib.contextmanager
def writing(folder: str | os.PathLike, *, process_index: int | None = None) -> Iterator[None]:
    """Keeps other processes from writing into a folder for the length of a block, and its record, see `keep_record`.

    A process that dies holds nothing any more. A file system without locks keeps nobody out.

    Args:
        folder: made if need be; removed again if it stays empty.
        process_index: of this process, where several share a run and its folder; None is alone.

    Raises:
        ValueError: another process is writing there; it is named.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "out"
        >>> with writing(folder):
        ...     print(sorted(path.name for path in folder.iterdir()))
        ['.mlfem.jsonl', '.mlfem.lock']
        >>> folder.exists()
        False
    """
    folder = Path(folder)
    names = [LOCK] if process_index is None else [LOCK, f".mlfem-{process_index}.lock"]
    with contextlib.ExitStack() as stack, naming_full_disk(folder):
        if not folder.exists():
            stack.callback(_remove_if_empty, folder)
        for name in names:
            if not stack.enter_context(holding(folder / name, shared=name != names[-1])):
                raise ValueError(
                    f"{folder}: expected no other process, got {holder(folder / name)}, which is writing here; wait "
                    "for it to end, or name another folder"
                )
        keep_record(folder)
        if process_index is None:
            for left in folder.glob(".mlfem-*.lock"):  # of processes that were killed: nobody shares the folder now
                left.unlink()
            _shorten(folder)
        stack.callback(_remove_if_empty, folder / RECORD)
        yield


def keep_record(folder: str | os.PathLike) -> None:
    """From now on `replacing` notes what it writes into a folder; and what killed processes left there is removed."""
    remove_orphans(Path(folder))
    with open(Path(folder) / RECORD, "ab"):
        pass


def note(path: Path, file: Path) -> None:
    """Notes that `file` is about to become `path`, in the nearest folder above that keeps a record, if one does."""
    keeper = next((folder for folder in path.parents if (folder / RECORD).exists()), None)
    if keeper is None:
        return
    descriptor = os.open(keeper / RECORD, os.O_WRONLY | os.O_APPEND)
    try:
        # On lines of its own: the one before may have been cut.
        entry = json.dumps([path.relative_to(keeper).as_posix(), *_stamp(file)])
        os.write(descriptor, f"\n{entry}\n".encode())
    finally:
        os.close(descriptor)


def note_tree(folder: Path) -> None:
    """Starts a record in a folder of files that we have just made, those in folders below included."""
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    lines = [json.dumps([path.relative_to(folder).as_posix(), *_stamp(path)]) for path in files]
    (folder / RECORD).write_text("\n".join([*lines, ""]))


def foreign(folder: str | os.PathLike, names: Iterable[str] | None = None) -> list[str]:
    """The files of a folder that this program did not make, or that were changed since.

    Args:
        folder: perhaps not there.
        names: of files in it. Default: all that are there, in the folders below too.

    Returns:
        Those of `names` that exist and are in no record, in order.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "cat.jpg").write_bytes(b"mine")
        >>> foreign(folder, ["cat.jpg", "dog.jpg"])
        ['cat.jpg']
    """
    folder = Path(folder)
    if names is None:
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir()]
        names = [name for name in names if Path(name).name not in (RECORD, LOCK)]
    records = {folder: _record(folder)}

    def ours(path: Path) -> bool:
        for above in [parent for parent in path.parents if parent.is_relative_to(folder)]:
            entry = (path.relative_to(above).as_posix(), *_stamp(path))
            if entry in records.setdefault(above, _record(above)):
                return True
        return False

    return [name for name in names if os.path.lexists(folder / name) and not ours(folder / name)]


def refuse_foreign(folder: str | os.PathLike, names: Iterable[str] | None = None) -> None:
    """Does nothing, unless a command would write over a file that this program did not make.

    Args:
        folder: that it writes into.
        names: of the files that it writes. Default: all that are there.

    Raises:
        FileExistsError: names the first few.
    """
    found = foreign(folder, names)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise FileExistsError(
            f"{folder}: expected files that this program made, got {', '.join(found[:3])}{more}, which would be "
            "written over; they are not of this program, or were changed since; name another folder, or move them"
        )


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.lstat()
    return stat.st_size, stat.st_mtime_ns


def _record(folder: Path) -> set[tuple[str, int, int]]:
    try:
        lines = (folder / RECORD).read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return set()
    entries = set()
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):  # a line that was cut, or somebody else's
            name, size, time = json.loads(line)
            entries.add((str(name), int(size), int(time)))
    return entries


def _shorten(folder: Path) -> None:
    """Leaves files that are gone, and what they were before, out of the record."""
    kept = {entry for entry in _record(folder) if os.path.lexists(folder / entry[0])}
    kept = sorted(entry for entry in kept if entry[1:] == _stamp(folder / entry[0]))
    text = "".join(json.dumps(entry) + "\n" for entry in kept).encode()
    path = folder / RECORD
    if len(text) < path.stat().st_size:
        beside = path.with_name(f"{RECORD}.new")  # not by `replacing`, which would note it
        beside.write_bytes(text)
        os.replace(beside, path)


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            path.rmdir()
        elif path.stat().st_size == 0:
            path.unlink()
