"""Reads the arrays of an .npz file."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from mlfem_jax.backbones.files.limits import check_sizes, shown
from mlfem_jax.backbones.files.zip_file import open_zip

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
        members = {member.filename: member for member in archive.infolist()}
        headers = {name: _header(archive, member) for name, member in members.items()}
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members.values())
        declared = ((name, header.shape, header.dtype) for name, header in headers.items())
        check_sizes(declared, path.stat().st_size, packed=packed)
        for name, header in headers.items():
            held, needed = members[name].file_size - header.length, int(np.prod(header.shape)) * header.dtype.itemsize
            if held != needed:
                raise ValueError(f"{shown(name)}: expected the {needed} bytes of its header, got {held}")
        return {name.removesuffix(".npy"): _array(archive.read(name), header) for name, header in headers.items()}


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
