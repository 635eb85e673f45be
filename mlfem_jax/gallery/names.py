"""What the files of a photograph are called: names that neither each other nor other people's files have."""

import itertools
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlfem_jax.files import foreign, printable

_ENDS = (".png", ".overlay.png", ".sheet.png", ".npy", ".why.png", ".why.json", ".webp")


def photo_names(paths: Sequence[Path], out: Path) -> list[tuple[str, str]]:
    """What each photograph is shown as, and the stem of its files: names that neither each other nor others' have.

    A file in `out` may be written over where an earlier run made it, and it is not one of the photographs.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    shared = os.path.commonpath([path.parent for path in absolute])
    stems = [_readable(path.stem) for path in absolute]
    there = os.listdir(out) if out.is_dir() else []
    taken = {_folded(name) for name in foreign(out, there)}
    taken |= {_folded(path.name) for path in absolute if path.parent.resolve() == out.resolve()}
    for index, stem in enumerate(stems):
        tries = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        stems[index] = next(stem for stem in tries if taken.isdisjoint(map(_folded, file_names(stem))))
        taken.update(map(_folded, file_names(stems[index])))
    shown = [os.fsencode(path.relative_to(shared)).decode(errors="replace") for path in absolute]
    return list(zip(shown, stems, strict=True))


def made_before(paths: Sequence[Path], out: Path) -> list[Path]:
    """Those of the photographs that an earlier run wrote into `out`: its overlays and sheets are no photographs."""
    inside = [path for path in paths if path.parent.resolve() == out.resolve()]
    others = set(foreign(out, [path.name for path in inside]))
    return [path for path in inside if path.name not in others and path.exists()]


class FileNames(NamedTuple):
    """Names of a photograph's picture, overlay, sheet and map, of what says why, and of a film with its map."""

    photo: str
    overlay: str
    sheet: str
    map: str
    why: str
    numbers: str
    film: str


def file_names(stem: str) -> FileNames:
    """The names of a photograph's files."""
    return FileNames(*(f"{stem}{end}" for end in _ENDS))


def _readable(name: str) -> str:
    """A name need not be valid Unicode, may steer a terminal, and has to leave room for an ending."""
    return printable(os.fsencode(name).decode(errors="replace"))[:50]


def _folded(name: str) -> str:
    """Equal for names that some file system takes for the same: A and a, or two spellings of an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
