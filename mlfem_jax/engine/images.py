"""Images of any kind to batches of one size: what goes into `explain` and `map_batches`."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mlfem_jax.photos import resize_photo

Image = np.ndarray | Array
Images = Image | Sequence[Image] | Iterator[Image]
BatchSize = Callable[[tuple[int, ...], Any], int]
"""(shape and dtype of an image) to the number of images in a batch."""


def image_batches(
    images: Images, size_of: BatchSize, size: tuple[int, int], *, rule: str
) -> Iterator[tuple[Image, int]]:
    """Batch after batch, all of one image size padded to one number of images.

    Args:
        images: see `explain`.
        size_of: the number of images in a batch, asked once for every run of images of one size.
        size: (height, width) in pixels of the network's input.
        rule: how a photograph gets there, see `resize_photo`.

    Returns:
        An iterator of (batch, how many of its images are real). Consecutive images of one size share a batch.

    Raises:
        ValueError: an image of another shape, dtype or range, by number.
    """
    if isinstance(images, np.ndarray | jax.Array) and (rule == "native" or images.shape[1:3] == size):
        _check_image(images, "images", ndim=4)
        count = size_of(images.shape[1:], images.dtype)
        for start in range(0, len(images), count):
            yield _padded(images[start : start + count], count)
        return
    ready = (_prepare(image, index, size, rule) for index, image in enumerate(images))
    for (shape, dtype), run in itertools.groupby(ready, key=lambda image: (image.shape, image.dtype)):
        count = size_of(shape, dtype)
        while group := list(itertools.islice(run, count)):
            yield _padded(np.stack(group), count)


def _padded(batch: Image, count: int) -> tuple[Image, int]:
    if len(batch) == count:
        return batch, count
    module = jnp if isinstance(batch, jax.Array) else np
    return module.pad(batch, [(0, count - len(batch))] + [(0, 0)] * 3), len(batch)


def _prepare(image: Image, index: int, size: tuple[int, int], rule: str) -> np.ndarray:
    """One image on the host, checked and resized."""
    image = np.asarray(image)
    _check_image(image, f"images[{index}]", ndim=3)
    return resize_photo(image, size, rule=rule)


def _check_image(image: Image, name: str, *, ndim: int) -> None:
    """Refuses what is no RGB image in uint8 or in [0, 1]."""
    if image.ndim != ndim or image.shape[-1] != 3 or 0 in image.shape:
        expected = "(N, H, W, 3)" if ndim == 4 else "(H, W, 3)"
        raise ValueError(f"{name}: expected RGB of shape {expected}, none of them 0, got shape {image.shape}")
    if jnp.issubdtype(image.dtype, jnp.floating):
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{name}: expected floats in [0, 1], got values from {low:g} to {high:g}")
    elif image.dtype != jnp.uint8:
        raise ValueError(f"{name}: expected uint8 or floats in [0, 1], got {image.dtype}")
