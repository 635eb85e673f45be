"""Anybody's own data: a folder of images with density maps or a table of fixations."""

import csv
import io
from pathlib import Path

import numpy as np

from mlfem_jax.data.releases.files import index_by_stem
from mlfem_jax.data.releases.records import ALL, Dataset, Problems, Release, make_gaze, read_example


def read_folder(root: Path, problems: Problems) -> Release:
    """The data below `root`: images/*, and fixations.csv or maps/<stem>.png; labels.csv where there is one.

    fixations.csv has the columns image, observer, x, y (0-based pixels) and, optionally, duration (ms);
    labels.csv has image, label and, optionally, clutter (a number of things), with one row for each label of
    an image. The column image takes a file's name with or without its suffix. Observers and labels are any
    words, and are numbered in sorted order. Where an image has fixations, its map is not used.
    """
    images = index_by_stem((root / "images").iterdir())
    maps = index_by_stem((root / "maps").iterdir()) if (root / "maps").is_dir() else {}
    rows, numbers = _fixations(root / "fixations.csv", images)
    gaze = maps.keys() | rows.keys()
    problems.add_all("images without gaze (left out)", images.keys() - gaze)
    problems.add_all("gaze without an image (left out)", gaze - images.keys())
    class_names, labels, clutter = _labels(root / "labels.csv", images)
    problems.add_all("labels without an image (left out)", labels.keys() - images.keys())

    def read(id: str):
        viewings = ((numbers[who], np.array([yx]), np.array([ms])) for who, yx, ms in rows.get(id, ()))
        return read_example(
            id,
            images[id],
            make_gaze(viewings),
            density=maps.get(id),
            labels=tuple(class_names.index(name) for name in sorted(labels.get(id, ()))),
            clutter=clutter.get(id, -1),
            problems=problems,
        )

    return Release({ALL: tuple(id for id in images if id in gaze)}, read, class_names)


def _fixations(path: Path, images: dict[str, Path]) -> tuple[dict[str, list], dict[str, int]]:
    """Image id to its (observer, (y, x), ms), and the observers' numbers."""
    rows: dict[str, list] = {}
    for line, row in _read_csv(path, ("image", "observer", "x", "y")):
        try:
            y, x, ms = (float(value) for value in (row["y"], row["x"], row.get("duration") or "nan"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {line}: x, y and duration should be numbers, found {row}") from error
        rows.setdefault(_id(row["image"], images), []).append((row["observer"], (y, x), ms))
    observers = sorted({observer for seen in rows.values() for observer, _, _ in seen})
    return rows, {observer: number for number, observer in enumerate(observers)}


def _labels(path: Path, images: dict[str, Path]) -> tuple[tuple[str, ...], dict[str, set[str]], dict[str, int]]:
    """Class names, image id to names of its classes, image id to clutter."""
    labels: dict[str, set[str]] = {}
    clutter: dict[str, int] = {}
    for line, row in _read_csv(path, ("image", "label")):
        id = _id(row["image"], images)
        labels.setdefault(id, set()).update({row["label"]} - {""})
        if row.get("clutter"):
            if not row["clutter"].isdigit():
                raise ValueError(f"{path}, line {line}: clutter should be a count, found {row['clutter']!r}")
            clutter[id] = int(row["clutter"])
    return tuple(sorted(set().union(*labels.values()))), labels, clutter


def _read_csv(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers; none where there is no such file."""
    if not path.is_file():
        return []
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text ({error})") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    if missing := set(columns) - set(reader.fieldnames or ()):
        found = ", ".join(reader.fieldnames or ()) or "nothing"
        raise ValueError(f"{path}: expected the columns {', '.join(columns)}; no {sorted(missing)} in {found}")
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"{path}, line {reader.line_num}: as many values as columns expected, found {row}")
        rows.append((reader.line_num, row))
    return rows


def _id(name: str, images: dict[str, Path]) -> str:
    """The id that a table means: a stem may itself hold dots, so the whole name is tried first."""
    return name if name in images else Path(name).stem


FOLDER = Dataset(
    name="folder",
    read=read_folder,
    layouts=(("images", "fixations.csv"), ("images", "maps")),
    tree="""\
images/*                 (any names, .jpg, .png, ...)
fixations.csv            (columns image, observer, x, y: 0-based pixels; duration in ms is optional)
maps/<stem>.png          (instead of, or beside, fixations.csv)
labels.csv               (optional: columns image, label; clutter is optional)""",
    homepage="your own experiment",
    sigma_px=None,
    sigma_source="depends on the experiment: give the pixels of one degree of visual angle",
)
