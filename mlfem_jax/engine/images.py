"""Images of any kind to batches of one size, and on into the stream: what `explain` and `map_batches` share."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from mlfem_jax.backbones import Backbone, Forward, LogitFunction
from mlfem_jax.engine.batch import forward_program, padded
from mlfem_jax.engine.stream import BatchSize, check_batch_size, images_in_batch, run_batches
from mlfem_jax.parallel import chosen_devices
from mlfem_jax.photos import own_frame, resize_photo

Image = np.ndarray | Array
Targets = Int[np.ndarray, "M K"] | LogitFunction | None
Images = Image | Sequence[Image] | Iterator[Image]
SizeOf = Callable[[tuple[int, ...], Any], int]
"""(shape and dtype of an image) to the number of images in a batch."""
SizeIn = Callable[[tuple[int, int]], tuple[int, int]]
"""(height, width) of a photograph to those in which the network gets it."""


def map_images(
    backbone: Backbone,
    images: Images,
    *,
    function: Callable[[Forward], Any],
    targets: Targets,
    batch_size: BatchSize,
    dtype: DTypeLike,
    resize: str,
    frame: tuple[int, int] | None,
    devices: Sequence[jax.Device] | None,
) -> Iterator[tuple[int, Any]]:
    """The outputs of batch after batch.

    Args:
        backbone: see `explain`.
        images: see `explain`.
        function: from a `Forward` to a pytree of arrays whose first axis is the image.
        targets: from `class_targets`.
        batch_size: see `explain`.
        dtype: see `explain`.
        resize: see `explain`.
        frame: see `explain`.
        devices: see `explain`.

    Returns:
        An iterator of (number of images, outputs of the padded batch).

    Raises:
        ValueError: see `explain`.
        MemoryError: see `explain`.
    """
    check_batch_size(batch_size)
    count = None if isinstance(images, Iterator) else len(images)
    if count is not None and batch_size != "auto":
        batch_size = min(batch_size, max(count, 1))
    # No device without an image.
    chosen = chosen_devices(devices)[: count if batch_size == "auto" else batch_size]
    program = forward_program(backbone, function, dtype=dtype, devices=chosen)
    classes = jax.ShapeDtypeStruct((1, targets.shape[1]), jnp.int32) if isinstance(targets, np.ndarray) else targets

    @functools.cache
    def size_of(shape: tuple[int, ...], image_dtype: Any) -> int:
        example = (jax.ShapeDtypeStruct((1, *shape), image_dtype), classes)
        return images_in_batch(program, example, batch_size, most=count)

    size_in = (lambda shape: backbone.input_size) if frame is None else functools.partial(own_frame, frame=frame)
    batches = image_batches(images, size_of, size_in, rule=resize)
    return run_batches(program, _with_targets(batches, targets))


def _with_targets(
    batches: Iterator[tuple[Image, int]], targets: Targets
) -> Iterator[tuple[int, tuple[Image, Targets]]]:
    """(number of images, (images, their rows of the targets)), padded; a single row, or a function, is for all."""
    start = 0
    for images, size in batches:
        count = len(images)
        rows = targets
        if isinstance(targets, np.ndarray):
            rows = np.repeat(targets, count, axis=0) if len(targets) == 1 else targets[start : start + count]
        start += count
        yield count, padded((images, rows), size)


def image_batches(images: Images, size_of: SizeOf, size_in: SizeIn, *, rule: str) -> Iterator[tuple[Image, int]]:
    """Batch after batch, each of images of one size.

    Args:
        images: see `explain`.
        size_of: the number of images in a batch, asked once for every run of images of one size.
        size_in: from (height, width) of an image to those that the network gets it in.
        rule: how a photograph gets there, see `resize_photo`.

    Returns:
        An iterator of (images, the number that `size_of` gave, which the last ones do not fill). Consecutive images of
        one size share a batch.

    Raises:
        ValueError: an image of another shape, dtype or range, by number.
    """
    if isinstance(images, np.ndarray | jax.Array) and (
        rule == "native" or images.shape[1:3] == size_in(_sides(images.shape[1:3]))
    ):
        _check_image(images, "images", ndim=4)
        count = size_of(images.shape[1:], images.dtype)
        for start in range(0, len(images), count):
            yield images[start : start + count], count
        return
    ready = (_prepare(image, index, size_in, rule) for index, image in enumerate(images))
    for (shape, dtype), run in itertools.groupby(ready, key=lambda image: (image.shape, image.dtype)):
        count = size_of(shape, dtype)
        while group := list(itertools.islice(run, count)):
            yield np.stack(group), count


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width; ones where there are none, which is refused later."""
    height, width, *_ = (*shape, 1, 1)
    return max(1, height), max(1, width)


def _prepare(image: Image, index: int, size_in: SizeIn, rule: str) -> np.ndarray:
    """One image on the host, checked and resized."""
    image = np.asarray(image)
    _check_image(image, f"images[{index}]", ndim=3)
    return resize_photo(image, size_in(_sides(image.shape)), rule=rule)


def _check_image(image: Image, name: str, *, ndim: int) -> None:
    """Refuses what is no RGB image in uint8 or in [0, 1]."""
    if image.ndim != ndim or image.shape[-1] != 3 or 0 in image.shape:
        expected = "(N, H, W, 3)" if ndim == 4 else "(H, W, 3)"
        raise ValueError(
            f"{name}: expected RGB of shape {expected}, none of them 0, got shape {image.shape}{_mend(image)}"
        )
    if jnp.issubdtype(image.dtype, jnp.floating):
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):
            advice = "; divide them by 255" if low >= 0 and 2 < high <= 255 else ""
            raise ValueError(f"{name}: expected floats in [0, 1], got values from {low:g} to {high:g}{advice}")
    elif image.dtype != jnp.uint8:
        raise ValueError(f"{name}: expected uint8 or floats in [0, 1], got {image.dtype}")


def _mend(image: Image) -> str:
    """What most likely makes an RGB image of it."""
    match image.shape:
        case ():
            return f"; read the file first: read_photo({str(image)!r})" if image.dtype.kind in "US" else ""
        case (_, 3):  # a row of a photograph that was taken for a list
            return "; one photograph goes in as [photo]"
        case (_, _):
            return "; of gray ones: np.stack([photo] * 3, axis=-1)"
        case (3, _, _):
            return "; with the channels first: photo.transpose(1, 2, 0)"
        case (*_, 4):
            return "; with transparency: photo[..., :3]"
    return ""
