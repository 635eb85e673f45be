"""Writes tiny releases in the right formats; knows nothing of the library."""

import io

import numpy as np
import scipy.io
from PIL import Image


def write_image(path, size=(12, 16), *, seed=0, value=None, quality=95):
    """Noise, or one gray `value`, of `size` (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    if value is not None:
        pixels[:] = value
    options = {"quality": quality} if path.suffix in (".jpg", ".jpeg") else {}
    Image.fromarray(pixels).save(path, **options)
    return path


def write_map(path, size=(12, 16), *, seed=0):
    """A gray map of noise, of `size` (height, width)."""
    return write_pixels(path, np.random.default_rng(seed).integers(0, 256, size, np.uint8))


def write_pixels(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def cells(items):
    """A MATLAB column cell array."""
    array = np.empty((len(items), 1), object)
    for i, item in enumerate(items):
        array[i, 0] = item
    return array


def write_mat(path, **variables):
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables)
    return path


def write_osie_mat(path, records):
    """`records`: (image name, [(fix_x, fix_y, fix_duration) of each subject]), 1-based."""
    subjects = [
        cells([{"fix_x": x, "fix_y": y, "fix_duration": ms} for x, y, ms in of_image]) for _, of_image in records
    ]
    images = [{"img": name, "subjects": s} for (name, _), s in zip(records, subjects, strict=True)]
    return write_mat(path, fixations=cells(images))


def write_salicon_mat(path, workers, resolution=(12, 16), samples=None):
    """`workers`: fixations (x, y) of each, 1-based; `samples`: (locations, timestamps) of each."""
    gaze = np.zeros((len(workers), 1), [("location", object), ("timestamp", object), ("fixations", object)])
    for i, points in enumerate(workers):
        mouse = (np.ones((2, 2)), np.ones((2, 1))) if samples is None else samples[i]
        gaze[i, 0] = (*map(np.asarray, mouse), np.asarray(points))
    return write_mat(path, gaze=gaze, resolution=np.array([resolution]))


def tiny_osie(root):
    """Two images of 12x16; three subjects, the last of whom never fixates 1002."""
    write_image(root / "data/stimuli/1001.jpg", seed=1)
    write_image(root / "data/stimuli/1002.jpg", seed=2)
    write_osie_mat(
        root / "data/eye/fixations.mat",
        [
            (
                "1001.jpg",
                [([1.0, 4.5], [1.0, 8.25], [100, 250]), ([16.0], [12.0], [90]), ([2.0], [3.0], [80])],
            ),
            ("1002.jpg", [([7.0], [5.0], [120]), ([8.0], [6.0], [130]), ([], [], [])]),
        ],
    )
    return root


def png_bytes(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
