"""Anybody's own data: a folder of images with density maps or a table of fixations."""

import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from mlfem_jax.data.releases.files import named
from mlfem_jax.data.releases.names import by_path, find_files, match_names, without_suffix
from mlfem_jax.data.releases.records import ALL, Dataset, Problems, Release, check_pixels, make_gaze, read_example
from mlfem_jax.data.releases.tables import Row, cell_count, cell_number, read_csv
from mlfem_jax.photos import PHOTO_SUFFIXES


def read_folder(root: Path, problems: Problems) -> Release:
    """The data below `root`: images/**, and fixations.csv or maps/**; labels.csv where there is one.

    fixations.csv has the columns image, observer, x, y (0-based pixels) and, optionally, duration (ms);
    labels.csv has image, label and, optionally, clutter (a number of things), with one row for each label of
    an image. The column image takes a file's path below images/, with or without its suffix, or its name alone (see
    `match_names`); the file of a map is named as its image is. Observers and labels are any words, and are numbered in
    sorted order; a blank observer is unknown. Where an image has fixations, its map is not used.
    """
    folder = root / "images"
    images = by_path(find_files(folder, problems, deep=True), folder, problems)
    maps = _maps(root / "maps", images, folder, problems)
    rows, numbers = _fixations(root / "fixations.csv", images, folder)
    gaze = maps.keys() | rows.keys()
    problems.add_all("images without gaze (left out)", images.keys() - gaze)
    problems.add_all("gaze without an image (left out)", gaze - images.keys())
    class_names, labels, clutter = read_labels(root / "labels.csv", "image", images, folder)
    problems.add_all("labels without an image (left out)", labels.keys() - images.keys())

    def read(image_id: str):
        viewings = ((numbers[who], np.array([yx]), np.array([ms])) for who, yx, ms in rows.get(image_id, ()))
        return read_example(
            image_id,
            images[image_id],
            make_gaze(viewings),
            density=maps.get(image_id),
            labels=tuple(class_names.index(name) for name in sorted(labels.get(image_id, ()))),
            clutter=clutter.get(image_id, -1),
            problems=problems,
        )

    return Release({ALL: tuple(image_id for image_id in images if image_id in gaze)}, read, class_names)


def _maps(place: Path, images: Mapping[str, Path], folder: Path, problems: Problems) -> dict[str, Path]:
    """Image id to its density map."""
    maps = by_path(find_files(place, problems, deep=True), place, problems)
    matched = match_names(maps, images, folder, place)
    found: dict[str, Path] = {}
    for name, path in maps.items():
        image_id = matched.get(name, name)
        if image_id in found:
            raise ValueError(
                f"{named(place)}: expected one map of {image_id!r}, got {found[image_id].name} and {path.name}"
            )
        found[image_id] = path
    return found


def _fixations(path: Path, images: Mapping[str, Path], folder: Path) -> tuple[dict[str, list], dict[str, int]]:
    """Image id to its (observer, (y, x), ms), and the observers' numbers."""
    table = read_csv(path, ("image", "observer", "x", "y"))
    ids = _ids(table, "image", path, images, folder)
    rows: dict[str, list] = {}
    for row in table:
        y, x, ms = (cell_number(row, name, path) for name in ("y", "x", "duration"))
        rows.setdefault(ids[row.cells["image"]], []).append((row.cells["observer"].strip(), (y, x), ms))
    check_pixels(np.array([yx for seen in rows.values() for _, yx, _ in seen]).reshape(-1, 2), named(path))
    observers = sorted({observer for seen in rows.values() for observer, _, _ in seen} - {""})
    return rows, {observer: number for number, observer in enumerate(observers)} | {"": -1}


def read_labels(
    path: Path,
    column: str,
    images: Mapping[str, Path],
    folder: Path,
    suffixes: Collection[str] = PHOTO_SUFFIXES,
) -> tuple[tuple[str, ...], dict[str, set[str]], dict[str, int]]:
    """Class names, image id to names of its classes, image id to clutter; `column` names the images."""
    labels: dict[str, set[str]] = {}
    clutter: dict[str, int] = {}
    table = read_csv(path, (column, "label"))
    ids = _ids(table, column, path, images, folder, suffixes)
    for row in table:
        image_id = ids[row.cells[column]]
        labels.setdefault(image_id, set()).update({row.cells["label"].strip()} - {""})
        count = cell_count(row, "clutter", path)
        if count >= 0 and clutter.setdefault(image_id, count) != count:
            before = clutter[image_id]
            raise ValueError(f"{named(path)}, line {row.line}: expected clutter {before}, as before, got {count}")
    return tuple(sorted(set().union(*labels.values()))), labels, clutter


def _ids(
    table: list[Row],
    column: str,
    path: Path,
    images: Mapping[str, Path],
    folder: Path,
    suffixes: Collection[str] = PHOTO_SUFFIXES,
) -> dict[str, str]:
    """A name in the column to the id of its image; where there is none, to the name without its suffix."""
    names = dict.fromkeys(row.cells[column] for row in table)
    matched = match_names(names, images, folder, path, suffixes)
    return {name: matched.get(name, without_suffix(unicodedata.normalize("NFC", name), suffixes)) for name in names}


FOLDER = Dataset(
    name="folder",
    read=read_folder,
    layouts=(("images", "fixations.csv"), ("images", "maps")),
    tree="""\
images/**                (any names, .jpg, .png, ...; subfolders too)
fixations.csv            (columns image, observer, x, y: 0-based pixels; duration in ms is optional)
maps/**                  (gray maps named as their images, instead of, or beside, fixations.csv)
labels.csv               (optional: columns image, label; clutter is optional)""",
    homepage="your own experiment",
    sigma_px=None,
    sigma_source="depends on the experiment: give the pixels of one degree of visual angle",
)
