"""CAT2000: 20 categories of 1920x1080 frames, some of them padded with gray bars."""

import dataclasses
from collections.abc import Collection
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mlfem_jax.data.releases.files import mask, named
from mlfem_jax.data.releases.mat import load_mat
from mlfem_jax.data.releases.names import by_path, find_files
from mlfem_jax.data.releases.records import ALL, Dataset, Problems, Release, gaze_from_points, read_example
from mlfem_jax.photos import PHOTO_SUFFIXES, read_photo


def read_cat2000(root: Path, problems: Problems) -> Release:
    """The training set below `root`: Stimuli/<Category>/NNN.jpg and FIXATIONLOCS/<Category>/NNN.mat.

    Fixations are binary maps, so observers and durations are unknown. The label is the category, by its
    folder's name as released.
    """
    categories = sorted(path.name for path in (root / "Stimuli").iterdir() if path.is_dir() and path.name != "Output")
    images = _by_category(root / "Stimuli", problems, PHOTO_SUFFIXES)
    mats = _by_category(root / "FIXATIONLOCS", problems, {".mat"})
    problems.add_all("images without gaze (left out)", images.keys() - mats.keys())
    problems.add_all("gaze without an image (left out)", mats.keys() - images.keys())
    untold = (path for path in (root.parent / "testSet" / "Stimuli").glob("*/*.jpg"))
    problems.add_all("test images (left out: truth not released)", (f"{p.parent.name}/{p.stem}" for p in untold))

    def read(image_id: str):
        points = mask(load_mat(mats[image_id], "fixLocs"), f"{named(mats[image_id])}, fixLocs")
        label = categories.index(image_id.split("/")[0])
        example = read_example(
            image_id,
            images[image_id],
            gaze_from_points(points),
            frame=(int(points.shape[0]), int(points.shape[1])),
            labels=(label,),
            problems=problems,
        )
        if example is None:
            return None
        box = content_box(read_photo(example.image, upright=False, name=named(images[image_id])))
        return dataclasses.replace(example, content_box=box)

    return Release({ALL: tuple(image_id for image_id in images if image_id in mats)}, read, tuple(categories))


def _by_category(folder: Path, problems: Problems, suffixes: Collection[str]) -> dict[str, Path]:
    """Files by category/name; what CAT2000 keeps in folders called Output is passed over."""
    output = [*folder.glob("Output"), *folder.glob("*/Output")]
    files = find_files(folder, problems, suffixes, deep=True, without=output)
    found = by_path(files, folder, problems)
    problems.add_all(
        "files outside the categories' folders (left out)", (image_id for image_id in found if image_id.count("/") != 1)
    )
    return {image_id: path for image_id, path in found.items() if image_id.count("/") == 1}


def content_box(image: UInt8[np.ndarray, "H W 3"], *, gray: int = 125, tolerance: int = 8) -> tuple[int, int, int, int]:
    """The part of an image inside the gray bars that pad it to the frame.

    A border row or column belongs to a bar if at least 99 % of its pixels are gray within the tolerance,
    which covers the noise that JPEG leaves in a flat bar.

    Args:
        image: the decoded frame.
        gray: level of the bars, in all three channels.
        tolerance: largest distance from `gray` in any channel.

    Returns:
        (y0, x0, y1, x1), half-open; the whole frame where there are no bars, or nothing but gray.

    Example:
        >>> frame = np.full((4, 6, 3), 126, np.uint8)
        >>> frame[:, 1:4] = 0
        >>> content_box(frame)
        (0, 1, 4, 4)
    """
    is_gray = (np.abs(image.astype(np.int16) - gray) <= tolerance).all(axis=-1)
    rows = np.flatnonzero(is_gray.mean(axis=1) < 0.99)
    columns = np.flatnonzero(is_gray.mean(axis=0) < 0.99)
    if len(rows) == 0 or len(columns) == 0:
        return (0, 0, image.shape[0], image.shape[1])
    return (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


CAT2000 = Dataset(
    name="cat2000",
    read=read_cat2000,
    layouts=(("Stimuli", "FIXATIONLOCS"),),
    subfolders=("trainSet", "."),
    tree="""\
trainSet/
  Stimuli/<Category>/NNN.jpg
  FIXATIONLOCS/<Category>/NNN.mat
testSet/Stimuli/<Category>/NNN.jpg   (optional: counted, no truth)""",
    homepage="http://saliency.mit.edu/results_cat2000.html",
    sigma_px=40.0,
    sigma_source="about 0.94 degrees at 42.7 px/degree",
)
