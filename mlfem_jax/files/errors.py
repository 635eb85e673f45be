"""What is said of files: a full disk with the file's name, and names that cannot move a terminal's cursor."""

import contextlib
import errno
import os
import unicodedata
from collections.abc import Iterator

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # the direction of what follows


@contextlib.contextmanager
def naming_full_disk(path: str | os.PathLike) -> Iterator[None]:
    """A block in which an error about a full disk, of whatever library, becomes an OSError that names `path`.

    Python's own `write` leaves the name out; orbax and array_record raise errors of their own kinds, with the reason
    in their text. An error that names a file already stays as it is.

    Args:
        path: what the block writes.

    Example:
        >>> with naming_full_disk("/data/a.npy"):
        ...     raise RuntimeError("write failed: No space left on device")
        Traceback (most recent call last):
        OSError: [Errno 28] No space left on device: '/data/a.npy'
    """
    try:
        yield
    except Exception as error:
        number = _full_disk(error)
        named = isinstance(error, OSError) and error.filename and not str(error.filename).endswith(".part")
        if number is None or named:
            raise
        raise OSError(number, os.strerror(number), os.fspath(path)) from error


def _full_disk(error: BaseException | None) -> int | None:
    """The number of the system's error, if an exception or one that it came from is about a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error.errno
        for number in _FULL:
            if os.strerror(number) in str(error):
                return number
        error = error.__cause__ or error.__context__
    return None


def printable(text: object, length: int | None = None) -> str:
    r"""The text on one line, with what would steer a terminal written as an escape.

    Args:
        text: perhaps the name of a file, which may hold anything.
        length: of the text, where it is cut, with "..." for the rest. Default: it is not.

    Returns:
        The text with control characters, line breaks, halves of surrogate pairs and changes of the writing direction
        as \x1b, \n, \udc80, \u202e.

    Example:
        >>> print(printable("a\x1b[2Jb"), printable("a" * 100, 5))
        a\x1b[2Jb aaaaa...
    """
    text = str(text)
    cut = text if length is None or len(text) <= length else text[:length] + "..."
    return "".join(character.encode("unicode_escape").decode() if _steers(character) else character
                   for character in cut)  # fmt: skip


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _TURNING
