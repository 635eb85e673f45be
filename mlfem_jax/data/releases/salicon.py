"""SALICON: the 2015 and 2017 releases (MATLAB), fixations or mouse samples, and the older JSON annotations."""

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlfem_jax.data.releases.coco import Objects, read_coco
from mlfem_jax.data.releases.files import MOST, column, field, load_json, named, numbers, structs
from mlfem_jax.data.releases.mat import load_mat
from mlfem_jax.data.releases.names import by_stem, find_files, match_names, without_suffix
from mlfem_jax.data.releases.records import Dataset, Gaze, Problems, Release, make_gaze, read_example

_STEM = re.compile(r"COCO_(train|val|test)2014_(\d{12})")


Viewing = tuple[np.ndarray, np.ndarray | None]
"""Of one worker: points (n, 2) as (x, y) from 1, and how long each lasted, in ms, or None."""


def fixations_of(worker: Any, where: str) -> Viewing:
    """What the release made of the mouse's path."""
    return _points(worker, "fixations", where), None


def mouse_samples_of(worker: Any, where: str) -> Viewing:
    """Every sample of the mouse's path, and how long it was there until the next one; of the last NaN."""
    points, times = _points(worker, "location", where), column(worker, "timestamp", where)
    if len(times) != len(points):
        raise ValueError(f"{where}: expected a timestamp for each of {len(points)} locations, got {len(times)}")
    return points, np.append(np.diff(times), np.nan) if len(times) else times


def _points(worker: Any, name: str, where: str) -> np.ndarray:
    points = field(worker, name, where)
    if points.size and (points.ndim != 2 or points.shape[1] != 2):
        raise ValueError(f"{where}: expected {name} of shape (n, 2) as (x, y), got {points.shape}")
    return column(worker, name, where).reshape(-1, 2)


def read_salicon(root: Path, problems: Problems, *, viewing: Callable[[Any, str], Viewing] = fixations_of) -> Release:
    """The release below `root`: images, fixations/{train,val}/*.mat, maps where an image has no fixations.

    Observers are anonymous: an index is the position among the workers of that one image. Labels and clutter
    (the number of instances) come from COCO's instances_{train,val}2014.json where they are there. `viewing` takes a
    worker's fixations, or the mouse samples, which stand for fixations then.
    """
    images = by_stem(find_files(root / "images", problems, deep=True), problems)
    split_of = {stem: match[1] for stem in images if (match := _STEM.fullmatch(stem))}
    problems.add_all("images without a SALICON name (left out)", images.keys() - split_of.keys())
    untold = {stem for stem, split in split_of.items() if split == "test"}
    problems.add_all("test images (left out: truth not released)", untold)
    mats = by_stem(find_files(root / "fixations", problems, {".mat"}, deep=True), problems)
    maps = by_stem(find_files(root / "maps", problems, deep=True), problems)
    problems.add_all("gaze without an image (left out)", (mats.keys() | maps.keys()) - images.keys())
    truth = mats.keys() | maps.keys()
    problems.add_all("images without gaze (left out)", split_of.keys() - untold - truth)
    splits = {split: tuple(sorted(s for s in truth if split_of.get(s) == split)) for split in ("train", "val")}
    class_names, objects = _objects(root, splits, problems)

    def read(image_id: str):
        gaze, frame = _workers(mats[image_id], viewing) if image_id in mats else (None, None)
        labels, instances = objects.get(int(image_id[-12:]), Objects((), -1))
        return read_example(
            image_id,
            images[image_id],
            gaze,
            frame=frame,
            density=maps.get(image_id),
            labels=labels,
            clutter=instances,
            clip_all=True,
            problems=problems,
        )

    return Release({split: ids for split, ids in splits.items() if ids}, read, class_names)


def read_salicon_json(root: Path, problems: Problems) -> Release:
    """The older release below `root`: annotations/fixations_*.json, COCO style, and images/**.

    Fixations are [row, column], 1-based. An observer's index is the rank of their worker_id, the same on
    every image of all files.
    """
    images = by_stem(find_files(root / "images", problems, deep=True), problems)
    splits: dict[str, tuple[str, ...]] = {}
    frames: dict[str, tuple[int, int]] = {}
    viewings: dict[str, list] = {}
    for path in sorted((root / "annotations").glob("fixations_*.json")):
        listed, annotations = _read_annotations(path, images, root / "images")
        if duplicates := frames.keys() & listed.keys():
            raise ValueError(f"{named(path)}: expected new ids, got {min(duplicates)!r}, which another file lists")
        frames |= listed
        viewings |= annotations
        split = "val" if "_val" in path.stem else "train"
        splits[split] = splits.get(split, ()) + tuple(image_id for image_id in listed if image_id in images)
    problems.add_all("images without gaze (left out)", images.keys() - frames.keys())
    problems.add_all("gaze without an image (left out)", frames.keys() - images.keys())
    seen = {worker for of_image in viewings.values() for worker, _ in of_image}
    workers = {worker: i for i, worker in enumerate(sorted(seen, key=lambda worker: (isinstance(worker, str), worker)))}

    def read(image_id: str):
        gaze = make_gaze((workers[worker], points - 1, None) for worker, points in viewings[image_id])
        return read_example(image_id, images[image_id], gaze, frame=frames[image_id], clip_all=True, problems=problems)

    return Release({split: ids for split, ids in splits.items() if ids}, read)


def _workers(mat: Path, viewing: Callable[[Any, str], Viewing]) -> tuple[Gaze, tuple[int, int]]:
    """Gaze and (height, width) of its frame, from the .mat of one image."""
    viewings = []
    for i, worker in enumerate(structs(load_mat(mat, "gaze"), f"{named(mat)}, gaze")):
        where = f"{named(mat)}, gaze({i + 1})"
        points, durations = viewing(worker, where)
        viewings.append((i, points[:, ::-1] - 1, durations))
    resolution = numbers(load_mat(mat, "resolution"), f"{named(mat)}, resolution")
    if resolution.size != 2 or not ((resolution > 0) & (resolution <= MOST)).all():
        raise ValueError(f"{named(mat)}: expected a resolution of (height, width), got {resolution[:4]}")
    return make_gaze(viewings), (int(resolution[0]), int(resolution[1]))


def _objects(
    root: Path, splits: dict[str, tuple[str, ...]], problems: Problems
) -> tuple[tuple[str, ...], dict[int, Objects]]:
    """COCO class names and the objects of each image, from the annotations that are there."""
    names: tuple[str, ...] = ()
    objects: dict[int, Objects] = {}
    for split, ids in splits.items():
        name = f"instances_{split}2014.json"
        path = next((p for p in (root / "annotations" / name, root / name) if p.is_file()), None)
        if path is None:
            problems.add(f"images without labels: no {name} in annotations/", split, len(ids))
            continue
        found, of_split = read_coco(path)
        if names not in ((), found):
            raise ValueError(f"{named(path)}: expected the categories of the other split's annotations, got others")
        names = found
        wanted = {int(image_id[-12:]): image_id for image_id in ids}
        unlisted = (wanted[i] for i in wanted.keys() - of_split.keys())
        problems.add_all(f"images without labels: {name} does not list them", unlisted)
        objects |= {i: of_image for i, of_image in of_split.items() if i in wanted}
    return names, objects


def _read_annotations(
    path: Path, images: Mapping[str, Path], folder: Path
) -> tuple[dict[str, tuple[int, int]], dict[str, list[tuple[int | str, np.ndarray]]]]:
    """Of one file: image id to (height, width), and to its (worker, (n, 2) as [row, col], 1-based)."""
    content = load_json(path)
    try:
        listed = [
            (image["id"], str(image["file_name"]), image["height"], image["width"]) for image in content["images"]
        ]
        matched = match_names((name for _, name, _, _ in listed), images, folder, path)
        ids = {number: matched.get(name, without_suffix(name)) for number, name, _, _ in listed}
        frames = {ids[number]: (height, width) for number, _, height, width in listed}
        if len(frames) < len(listed) or len(ids) < len(listed):
            raise ValueError(f"{named(path)}: expected each id once, got duplicates among its {len(listed)} images")
        viewings: dict[str, list] = {image_id: [] for image_id in frames}
        for annotation in content["annotations"]:
            worker = annotation["worker_id"]
            where = f"{named(path)}, image {annotation['image_id']!r:.40}, worker {worker!r:.40}"
            if not isinstance(worker, int | str):
                raise ValueError(
                    f"{where}: expected a number or a name as the worker's id, got a {type(worker).__name__}"
                )
            points = _row_column(annotation["fixations"], where)
            viewings[ids[annotation["image_id"]]].append((worker, points))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{named(path)}: expected a SALICON annotations file, got another ({error!r:.100})") from error
    return frames, viewings


def _row_column(fixations: list, where: str) -> np.ndarray:
    try:
        points = np.asarray(fixations, float)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected fixations as [row, column], got others ({error!s:.100})") from error
    if points.size and (points.ndim != 2 or points.shape[1] != 2):
        raise ValueError(f"{where}: expected fixations as [row, column], got an array of shape {points.shape}")
    return points.reshape(-1, 2)


_TREE = """\
images/{train,val,test}/COCO_{split}2014_<12-digit id>.jpg   (or all of them flat in images/)
fixations/{train,val}/<stem>.mat
maps/{train,val}/<stem>.png                                  (optional)
annotations/instances_{train,val}2014.json                   (optional: COCO labels)"""


def _dataset(configuration: str, published: dict[str, tuple[int, int]], viewing=fixations_of) -> Dataset:
    return Dataset(
        name=f"salicon/{configuration}",
        read=functools.partial(read_salicon, viewing=viewing),
        layouts=(("images", "fixations"), ("images", "maps")),
        tree=_TREE,
        homepage="http://salicon.net",
        sigma_px=19.0,
        sigma_source="the release's own density maps",
        published=published,
    )


SALICON_2015 = _dataset("2015", {"train": (10_000, 3_171_533), "val": (5_000, 1_662_655)})
SALICON_2017 = _dataset("2017", {"train": (10_000, 4_598_112), "val": (5_000, 2_576_914)})
SALICON_MOUSE = _dataset("mouse", {}, mouse_samples_of)
"""Of either release: the samples of the mouse's path in the place of fixations."""
SALICON_JSON = Dataset(
    name="salicon/json",
    read=read_salicon_json,
    layouts=(("images", "annotations"),),
    tree="""\
images/**/COCO_{train,val}2014_<12-digit id>.jpg
annotations/fixations_{train,val}2014*.json""",
    homepage="http://salicon.net",
    sigma_px=19.0,
    sigma_source="the release's own density maps",
)
