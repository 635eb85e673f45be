"""Reads the arrays of an .npz file."""

import dataclasses
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mlfem_jax.files.limits import check_sizes, shown
from mlfem_jax.files.zip_file import open_zip

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclasses.dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype
    length: int


def read_npz_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name; no pickle in it is read.

    Args:
        path: the file, with stored or deflated members.

    Returns:
        Read-only arrays.

    Raises:
        ValueError: a member that is no array of numbers, or one whose declared size is not its own. Errors of `zipfile`
            pass: the caller names the file.
    """
    with open_zip(path) as archive:
        headers = _headers(archive, archive.namelist(), path.stat().st_size, together=True)
        return {name.removesuffix(".npy"): _array(archive.read(name), header) for name, header in headers.items()}


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each array of an .npz file, by name, from the headers alone.

    Raises:
        ValueError: as `read_npz_file`; each array for itself may be as large as there all are together.
    """
    with open_zip(path) as archive:
        headers = _headers(archive, archive.namelist(), path.stat().st_size, together=False)
        return {name.removesuffix(".npy"): header.shape for name, header in headers.items()}


def read_npz_array(path: Path, name: str) -> np.ndarray:
    """One array of an .npz file, read-only.

    Raises:
        ValueError: as `npz_shapes`, or there is none of that name.
    """
    with open_zip(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            raise ValueError(f"expected an array {shown(name)!r}, got none")
        ((member, header),) = _headers(archive, [f"{name}.npy"], path.stat().st_size, together=False).items()
        return _array(archive.read(member), header)


def _headers(archive: zipfile.ZipFile, names: Iterable[str], present: int, *, together: bool) -> dict[str, _Header]:
    """The checked headers of members; `together` where all of their arrays are to be in memory at once."""
    headers = {name: _header(archive, archive.getinfo(name)) for name in names}
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
    declared = [(name, header.shape, header.dtype) for name, header in headers.items()]
    for arrays in [declared] if together else [[one] for one in declared]:
        check_sizes(arrays, present, packed=packed)
    for name, header in headers.items():
        held = archive.getinfo(name).file_size - header.length
        needed = math.prod(header.shape) * header.dtype.itemsize
        if held != needed:
            raise ValueError(f"{shown(name)}: expected the {needed} bytes of its header, got {held}")
    return headers


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Header:
    name = shown(member.filename)
    if not member.filename.endswith(".npy"):
        raise ValueError(f"{name}: expected an array, whose name ends in .npy, got another member")
    with archive.open(member) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            shape, columns_first, dtype = _HEADERS[version](stream)
        except Exception as error:
            raise ValueError(
                f"{name}: expected an array, got another beginning ({type(error).__name__}: {error})"
            ) from error
        return _Header(shape, columns_first, dtype, stream.tell())


def _array(data: bytes, header: _Header) -> np.ndarray:
    flat = np.frombuffer(data, header.dtype, offset=header.length)
    return flat.reshape(header.shape[::-1]).T if header.columns_first else flat.reshape(header.shape)
