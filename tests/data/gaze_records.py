"""Tiny prepared records, written by hand: what a builder would have stored."""

import io

import numpy as np
from PIL import Image


def encode(pixels, file_format="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


def make_record(position, *, shape=(12, 16), fixations=3, **fields):
    rng = np.random.default_rng(position)
    return {
        "image": encode(np.full((*shape, 3), position, np.uint8)),
        "id": f"image{position}".encode(),
        "size": np.array(shape, np.int32),
        "fixations": rng.uniform(0, np.array(shape) - 1, (fixations, 2)).astype(np.float32),
        "observers": (np.arange(fixations) % 4).astype(np.int32),
        "durations": np.full(fixations, 200, np.float32),
        "density": b"",
        "labels": np.array([position % 3], np.int32),
        "clutter": np.int32(position),
        "content_box": np.array([0, 0, *shape], np.int32),
        **fields,
    }


def make_source(count):
    return [make_record(position, fixations=position % 5) for position in range(count)]
