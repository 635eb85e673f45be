"""How much a file of arrays may ask for, and how its faults are told: one place for every format.

Every reader lists what its file declares and asks `check_sizes` before it takes memory. Whatever goes wrong in a reader
leaves `naming` as one ValueError that names the file.
"""

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mlfem_jax.files.errors import printable

PACKED_BYTES = 640 * 2**20
"""What the arrays of a compressed file may unfold to; a large file, to `PACKED_RATIO` times its own size."""
PACKED_RATIO = 4
ENTRIES = 100_000
"""Arrays, members of a zip, links of a folder, chunks: none of them may be more."""
DEPTH = 32
"""Folders in folders, groups in groups, dicts in dicts."""
HEADER_BYTES = 2**24
"""Of JSON, of a zip's directory: what is parsed before anything is known."""
OPCODES = 2_000_000
"""Steps of a pickle; a state dict needs about forty for each tensor."""
_SHOWN = 80
_MESSAGE = 1500

# Numbers of one byte and more that NumPy knows only through JAX's own types. Two float4 share a byte: not read.
_SMALL_FLOATS = frozenset(
    np.dtype(dtype)
    for dtype in (
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz,
        ml_dtypes.float8_e8m0fnu,
    )
)


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Within the block, any error becomes a ValueError of bounded length that begins with the file's name.

    Args:
        path: the file.

    Returns:
        A context manager. A library that is not installed is no fault of the file: ModuleNotFoundError passes.

    Example:
        >>> with naming("a.npz"):
        ...     {}["w"]
        Traceback (most recent call last):
        ValueError: a.npz: expected a whole file, got a damaged one (KeyError: 'w')
    """
    try:
        yield
    except ModuleNotFoundError:
        raise
    except Exception as error:
        message = f"{path}: {printable(' '.join(fault(error).split()), _MESSAGE)}"
        raise ValueError(message) from error


def fault(error: Exception) -> str:
    """What an error says is wrong with a file: "expected ..., got ...", also where a library speaks another way.

    Example:
        >>> fault(ValueError("w: expected numbers, got S3")), fault(OSError("eof"))
        ('w: expected numbers, got S3', 'expected a whole file, got a damaged one (OSError: eof)')
    """
    text = str(error)
    ours = isinstance(error, ValueError) and "expected " in text and ", got " in text
    return text if ours else f"expected a whole file, got a damaged one ({type(error).__name__}: {text})"


def shown(name: object) -> str:
    """A name out of a file, short enough for a message.

    Example:
        >>> len(shown("a" * 100))
        83
    """
    return printable(name, _SHOWN)


def is_number(dtype: np.dtype) -> bool:
    """Whether arrays of this dtype are numbers: boolean, integer, or floating, float8 and bfloat16 among them.

    Example:
        >>> is_number(np.dtype("f2")), is_number(np.dtype("S3"))
        (True, False)
    """
    return dtype in _SMALL_FLOATS or (dtype.kind in "biuf" and dtype.itemsize <= 16)


def is_floating(dtype: np.dtype) -> bool:
    """Whether arrays of this dtype hold fractions.

    Example:
        >>> is_floating(np.dtype(ml_dtypes.bfloat16)), is_floating(np.dtype("i4"))
        (True, False)
    """
    return dtype in _SMALL_FLOATS or dtype.kind == "f"


def allowance(present: int, *, packed: bool) -> int:
    """Bytes that the arrays of a file may take together: those that are there, and more where they are packed.

    Example:
        >>> allowance(100, packed=False), allowance(100, packed=True) == PACKED_BYTES
        (100, True)
    """
    return max(PACKED_BYTES, PACKED_RATIO * present) if packed else present


def check_sizes(
    declared: Iterable[tuple[str, tuple[int, ...], np.dtype]], present: int, *, packed: bool = False
) -> None:
    """Nothing where the arrays that a file declares can be what its bytes hold; to be asked before they are read.

    Args:
        declared: name, shape and dtype of each array.
        present: bytes of the file or folder.
        packed: whether it is compressed.

    Raises:
        ValueError: no array or too many; no numbers; a negative length; more bytes than `allowance`.

    Example:
        >>> check_sizes([("w", (10**10,), np.dtype("f4"))], 248)
        Traceback (most recent call last):
        ValueError: w: expected at most 248 bytes in all, got 40000000000 declared
    """
    room, total, count = allowance(present, packed=packed), 0, 0
    for name, shape, dtype in declared:
        count += 1
        if not is_number(dtype):
            raise ValueError(f"{shown(name)}: expected numbers, got {shown(dtype)}")
        if min(shape, default=0) < 0 or len(shape) > DEPTH:
            raise ValueError(
                f"{shown(name)}: expected a shape of at most {DEPTH} lengths, 0 or more, got {shown(shape)}"
            )
        total += math.prod(shape) * dtype.itemsize
        if total > room:
            raise ValueError(f"{shown(name)}: expected at most {room} bytes in all, got {total} declared")
        if count > ENTRIES:
            raise ValueError(f"expected at most {ENTRIES} arrays, got more")
    if not count:
        raise ValueError("expected arrays, got none")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of at most `HEADER_BYTES`.

    Raises:
        ValueError: it holds anything else; does not name the file.
    """
    if not path.is_file() or path.stat().st_size > HEADER_BYTES:
        raise ValueError(f"expected a JSON file of at most {HEADER_BYTES} bytes, got none or a longer one")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected a whole JSON file, got another ({error})") from error
    if not isinstance(content, dict) or len(content) > ENTRIES:
        raise ValueError(f"expected a JSON object, got a {type(content).__name__}")
    return content
