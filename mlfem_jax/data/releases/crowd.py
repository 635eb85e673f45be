"""Saliency in Crowd: OSIE's format, with the number of faces in each image as clutter and, by quartiles, as class."""

import dataclasses
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlfem_jax.data.releases.files import count, named, structs, text
from mlfem_jax.data.releases.mat import load_mat
from mlfem_jax.data.releases.names import without_suffix
from mlfem_jax.data.releases.osie import read_fixations_mat
from mlfem_jax.data.releases.records import Dataset, Example, Problems, Release


def read_crowd(root: Path, problems: Problems) -> Release:
    """The release below `root`: stimuli/*.jpg, eye/fixations.mat and labels.mat with {img, nFaces, faces}.

    The release has no classes; four are made of the number of faces, see `face_classes`.
    """
    counts = _face_counts(root / "labels.mat")
    found = read_fixations_mat(root / "stimuli", root / "eye" / "fixations.mat", problems, clutter=counts)
    present = {image_id for ids in found.splits.values() for image_id in ids}
    names, classes = face_classes({image_id: count for image_id, count in counts.items() if image_id in present})

    def read(image_id: str) -> Example | list[Example] | None:
        example = found.read(image_id)
        known = isinstance(example, Example) and image_id in classes
        return dataclasses.replace(example, labels=(classes[image_id],)) if known else example

    return Release(found.splits, read, names)


def face_classes(counts: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names of the classes, and id to class: the quartile of an image's number of faces.

    The borders are the 25th, 50th and 75th percentile, each a number of faces that occurs (the smallest that at least
    that share of the images does not exceed). An image on a border belongs to the lower class, so the classes hold a
    quarter of the images each but for ties. Borders that coincide leave fewer than four.

    Args:
        counts: id to number of faces.

    Example:
        >>> face_classes({"a": 3, "b": 8, "c": 8, "d": 9, "e": 20, "f": 21, "g": 40, "h": 90})[0]
        ('3-8 faces', '9 faces', '20-21 faces', '40-90 faces')
    """
    if not counts:
        return (), {}
    faces = np.array(list(counts.values()))
    borders = np.unique(np.quantile(faces, (0.25, 0.5, 0.75), method="inverted_cdf"))
    classes = np.searchsorted(borders, faces, side="left")
    spans = [(faces[classes == i].min(), faces[classes == i].max()) for i in np.unique(classes)]
    names = tuple(f"{low} faces" if low == high else f"{low}-{high} faces" for low, high in spans)
    return names, dict(zip(counts, classes.tolist(), strict=True))


def _face_counts(mat: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for i, record in enumerate(structs(load_mat(mat, "labels"), f"{named(mat)}, labels")):
        where = f"{named(mat)}, labels{{{i + 1}}}"
        image_id = without_suffix(unicodedata.normalize("NFC", text(record, "img", where)))
        if image_id in counts:
            raise ValueError(f"{where}: expected each id once, got {image_id!r} again")
        counts[image_id] = count(record, "nFaces", where)
    return counts


CROWD = Dataset(
    name="crowd",
    read=read_crowd,
    layouts=(("stimuli", "eye/fixations.mat", "labels.mat"),),
    subfolders=("data", "."),
    tree="""\
data/
  stimuli/*.jpg
  eye/fixations.mat
  labels.mat""",
    homepage="https://github.com/NUS-VIP/saliency-in-crowd",
    sigma_px=26.0,
    sigma_source="one degree of visual angle in the experiment",
    revision=1,  # classes
)
