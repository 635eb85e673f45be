"""OSIE, and the MATLAB format of its fixations, which Saliency in Crowd and MIT1003 share."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlfem_jax.data.releases.files import column, field, named, structs, text
from mlfem_jax.data.releases.mat import load_mat
from mlfem_jax.data.releases.names import by_stem, find_files, match_names, without_suffix
from mlfem_jax.data.releases.records import ALL, Dataset, Gaze, Problems, Release, make_gaze, read_example


def read_osie(root: Path, problems: Problems) -> Release:
    """The release below `root`: stimuli/*.jpg and eye/fixations.mat."""
    return read_fixations_mat(root / "stimuli", root / "eye" / "fixations.mat", problems)


def read_fixations_mat(
    stimuli: Path, mat: Path, problems: Problems, *, clutter: Mapping[str, int] | None = None
) -> Release:
    """Images and one MATLAB file of cells {img, subjects{fix_x, fix_y, fix_duration}}, in 1-based pixels.

    An observer's index is their position among the subjects, the same on every image.

    Args:
        stimuli: folder of the images.
        mat: the MATLAB file with the variable `fixations`.
        problems: where images without gaze and gaze without an image are counted.
        clutter: id to number of things; an image that is not in it is counted, and gets -1.

    Raises:
        ValueError: damage in the MATLAB file, or two records or two images of the same name.
    """
    images = by_stem(find_files(stimuli, problems), problems)
    found = list(structs(load_mat(mat, "fixations"), f"{named(mat)}, fixations"))
    names = [text(record, "img", f"{named(mat)}, fixations{{{i}}}") for i, record in enumerate(found, start=1)]
    matched = match_names(names, images, stimuli, mat)
    records: dict[str, np.void] = {}
    for i, (name, record) in enumerate(zip(names, found, strict=True), start=1):
        image_id = matched.get(name, without_suffix(name))
        if image_id in records:
            raise ValueError(f"{named(mat)}, fixations{{{i}}}: expected each id once, got {image_id!r} again")
        records[image_id] = record
    problems.add_all("images without gaze (left out)", images.keys() - records.keys())
    problems.add_all("gaze without an image (left out)", records.keys() - images.keys())
    ids = tuple(image_id for image_id in images if image_id in records)
    if clutter is not None:
        problems.add_all("images without clutter labels (clutter -1)", set(ids) - clutter.keys())

    def read(image_id: str):
        gaze = _subjects(records[image_id], f"{named(mat)}, image {image_id}")
        return read_example(
            image_id, images[image_id], gaze, problems=problems, clutter=(clutter or {}).get(image_id, -1)
        )

    return Release({ALL: ids}, read)


def _subjects(record: np.void, where: str) -> Gaze:
    viewings = []
    for i, subject in enumerate(structs(field(record, "subjects", where), f"{where}, subjects")):
        here = f"{where}, subject {i + 1}"
        x, y, ms = (column(subject, name, here) for name in ("fix_x", "fix_y", "fix_duration"))
        if not len(x) == len(y) == len(ms):
            raise ValueError(
                f"{here}: expected as many of each, got {len(x)} fix_x, {len(y)} fix_y, {len(ms)} fix_duration"
            )
        viewings.append((i, np.stack([y, x], axis=1) - 1, ms))
    return make_gaze(viewings)


OSIE = Dataset(
    name="osie",
    read=read_osie,
    layouts=(("stimuli", "eye/fixations.mat"),),
    subfolders=("data", "."),
    tree="""\
data/
  stimuli/*.jpg
  eye/fixations.mat""",
    homepage="https://github.com/NUS-VIP/predicting-human-gaze-beyond-pixels",
    sigma_px=24.0,
    sigma_source="one degree of visual angle in the experiment",
)
