"""Finding and reading the files of a release; errors name the file, what was expected and what was found."""

import contextlib
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find_root(
    source: Path, layouts: tuple[tuple[str, ...], ...], *, subfolders: tuple[str, ...], instructions: str
) -> Path:
    """The folder at or below `source` that holds every path of one layout.

    Args:
        source: the folder that the user named.
        layouts: each a tuple of paths that must all exist below the root.
        subfolders: where the root may lie below `source`, in the order they are tried.
        instructions: what to show where nothing fits.

    Returns:
        The first `source / subfolder` that fits.

    Raises:
        FileNotFoundError: no folder fits; says what was looked for, and what the nearest one lacks.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder. {instructions}")
    tried = []
    for root in (source / subfolder for subfolder in subfolders):
        for layout in layouts:
            missing = [path for path in layout if not (root / path).exists()]
            if not missing:
                return root
            tried.append((len(missing) / len(layout), root, missing))
    _, root, missing = min(tried, key=lambda found: found[0])
    looked_for = " or ".join(" + ".join(layout) for layout in layouts)
    where = ", ".join(dict.fromkeys(str(root) for _, root, _ in tried))
    raise FileNotFoundError(
        f"looked for {looked_for} in {where}; {root} has no {', no '.join(missing)}. {instructions}"
    )


def index_by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """The image files among `paths` by stem, sorted; other files are passed over.

    Raises:
        ValueError: two files have the same stem, so one id would stand for two images.
    """
    found: dict[str, Path] = {}
    for path in sorted(paths):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ValueError(f"duplicate id {path.stem!r}: {found[path.stem]} and {path}")
        found[path.stem] = path
    return found


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: this image does not decode ({error})") from error


def pixels(encoded: bytes, path: Path, mode: str) -> np.ndarray:
    """The image in mode "L", (H, W), or "RGB", (H, W, 3), uint8; ValueError naming a damaged `path`."""
    with _naming(path):
        return np.asarray(Image.open(io.BytesIO(encoded)).convert(mode))


def image_size(encoded: bytes, path: Path) -> tuple[int, int]:
    """(height, width) in pixels of an image that decodes to its end; ValueError naming a damaged `path`."""
    with _naming(path):
        image = Image.open(io.BytesIO(encoded))
        width, height = image.size
        image.draft("L", (1, 1))  # JPEG: reads the whole stream but computes one pixel in 64
        image.load()
    return height, width


def is_rotated(encoded: bytes) -> bool:
    """Whether the image's EXIF tells viewers to rotate or mirror it."""
    return Image.open(io.BytesIO(encoded)).getexif().get(ExifTags.Base.Orientation, 1) != 1


def load_mat(path: Path, variable: str) -> np.ndarray:
    """`variable` of a MATLAB file, as scipy reads it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or no MATLAB file up to version 7.2, or has no such variable.
    """
    import scipy.io

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it should hold the MATLAB variable {variable!r}")
    try:
        content = scipy.io.loadmat(path, variable_names=[variable])
    except NotImplementedError as error:
        raise ValueError(f"{path}: a MATLAB 7.3 file; save it again with -v7") from error
    except Exception as error:  # scipy raises many unrelated types on damaged files
        raise ValueError(f"{path}: not a readable MATLAB file, perhaps truncated ({error})") from error
    if variable not in content:
        names = ", ".join(name for name, *_ in scipy.io.whosmat(path)) or "none"
        raise ValueError(f"{path}: expected the variable {variable!r}, found {names}")
    return content[variable]


def load_json(path: Path) -> Any:
    """The content of a JSON file; ValueError naming it where it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not a readable JSON file, perhaps truncated ({error})") from error


def structs(array: np.ndarray) -> Iterator[np.void]:
    """The structs of a MATLAB cell array of 1x1 structs, or of a struct array: releases use both."""
    for item in array.ravel():
        yield item.ravel()[0] if isinstance(item, np.ndarray) else item


def field(record: Any, name: str, where: str) -> np.ndarray:
    """Field `name` of a MATLAB struct; ValueError naming the record (`where`) where there is none."""
    names = getattr(getattr(record, "dtype", None), "names", None) or ()
    if name not in names:
        raise ValueError(f"{where}: expected the field {name!r}, found {', '.join(names) or 'no struct'}")
    return record[name]


def text(record: Any, name: str, where: str) -> str:
    """Field `name` as a string; ValueError naming the record (`where`) where it is not exactly one."""
    values = field(record, name, where)
    if values.size != 1 or values.dtype.kind != "U":
        raise ValueError(f"{where}: field {name!r} should be one string, is {values!r}")
    return str(values.item())


def number(record: Any, name: str, where: str) -> float:
    """Field `name` as one number; ValueError naming the record (`where`) where it is not exactly one."""
    values = column(record, name, where)
    if values.size != 1:
        raise ValueError(f"{where}: field {name!r} should be one number, is {values}")
    return float(values[0])


def column(record: Any, name: str, where: str) -> np.ndarray:
    """Field `name` as a flat float64 array; ValueError naming the record where it holds no numbers."""
    values = field(record, name, where)
    if values.size and not np.issubdtype(values.dtype, np.number):
        raise ValueError(f"{where}: field {name!r} should be numeric, is {values.dtype}")
    return np.zeros(0) if values.size == 0 else values.ravel().astype(float)
