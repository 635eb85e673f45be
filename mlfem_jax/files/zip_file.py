"""Zip files that can be trusted: what .npz and torch files are made of."""

import contextlib
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mlfem_jax.files.limits import ENTRIES, HEADER_BYTES, shown

_END = struct.Struct("<4s4H2LH")  # of the directory
_LOCATOR = struct.Struct("<4sLQL")  # of the 64-bit end
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR_BYTES = 24  # behind a member whose writer did not go back to its header
_LONGEST_COMMENT = 2**16


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip file, all of whose bytes belong to members of distinct names, stored or deflated.

    A damaged directory may leave members out, and a forged one may name the same bytes again and again: members must
    lie one behind the other from the first byte to the directory.

    Args:
        path: the file.

    Returns:
        A context manager that gives it, open for reading.

    Raises:
        ValueError: it is no such file. Errors of `zipfile` pass: the caller names the file.
    """
    count = _directory(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.compress_size for member in members) > path.stat().st_size:
            raise ValueError("expected members that fit into the file, got more bytes than it has")
        if len(members) != count:
            raise ValueError(f"expected the {count} members announced in its zip directory, got {len(members)}")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("expected members of distinct names, got two of one name")
        for member in members:
            if member.flag_bits & 1:
                raise ValueError(f"{shown(member.filename)}: expected a plain member, got an encrypted one")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(
                    f"{shown(member.filename)}: expected stored or deflated, got compression {member.compress_type}"
                )
        with path.open("rb") as file:
            _check_places(archive, file)
        yield archive


def _directory(path: Path) -> int:
    """The announced number of members of a file on one disk, with a directory that is not too long to parse."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = max(0, size - _END.size - _LONGEST_COMMENT - _LOCATOR.size)
        file.seek(start)
        tail = file.read()
        at = tail.rfind(b"PK\5\6")
        if at < 0 or len(tail) < at + _END.size:
            raise ValueError("expected a whole zip file, got one that is damaged or cut short")
        _, disk, first, here, count, length, *_ = _END.unpack_from(tail, at)
        locator = tail[max(0, at - _LOCATOR.size) : at]
        disks = {disk, first}
        if locator.startswith(b"PK\6\7") and len(locator) == _LOCATOR.size:
            _, disk, place, number = _LOCATOR.unpack(locator)
            file.seek(min(place, size))
            end = file.read(_END_64.size)
            if len(end) < _END_64.size or not end.startswith(b"PK\6\6"):
                raise ValueError("expected a whole zip file, got a damaged one (no 64-bit end where it is said to be)")
            *_, disk_64, first, here, count, length, _ = _END_64.unpack(end)
            disks = {disk, disk_64, first} | ({number - 1} if number else set())
    if disks != {0} or here != count:
        raise ValueError("expected a zip file on one disk, got one over several disks")
    if count > ENTRIES or length > min(HEADER_BYTES, size):
        raise ValueError(f"expected a zip directory that fits, got one of {count} members, {length} bytes")
    return count


def _check_places(archive: zipfile.ZipFile, file: BinaryIO) -> None:
    end = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if not 0 <= member.header_offset - end <= (_DESCRIPTOR_BYTES if end else 0):
            raise ValueError(
                f"{shown(member.filename)}: expected all bytes before it in the zip directory's account, got others"
            )
        file.seek(member.header_offset)
        *_, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
        end = member.header_offset + _LOCAL.size + name_length + extra_length + member.compress_size
    if not 0 <= archive.start_dir - end <= _DESCRIPTOR_BYTES:
        raise ValueError("expected a zip directory that accounts for all bytes, got others behind its members")
