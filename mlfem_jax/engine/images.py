"""Images, or other data, to batches of one size, and on into the stream: what `explain` and `map_batches` share."""

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Reader:
    """How what is given becomes what the network gets.

    Attributes:
        whole: of an array of examples what goes in, checked; None where they have to be made ready one by one.
        one: of an example on the host, and its name, what goes in, checked and resized.
    """

    whole: Callable[[Image], Image | None]
    one: Callable[[np.ndarray, str], np.ndarray]


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

    reader = _photo_reader(backbone, resize, frame) if backbone.photos else _data_reader(backbone, resize, frame)
    return run_batches(program, _with_targets(image_batches(images, size_of, reader), targets))


def _photo_reader(backbone: Backbone, rule: str, frame: tuple[int, int] | None) -> Reader:
    """Photographs of any size, resized by the rule to that of the network or to their own `frame`."""

    def size_in(shape: tuple[int, int]) -> tuple[int, int]:
        return backbone.photo_size if frame is None else own_frame(shape, frame, step=backbone.frame_step)

    def whole(photos: Image) -> Image | None:
        if rule != "native" and photos.shape[1:3] != size_in(_sides(photos.shape[1:3])):
            return None
        _check_photo(photos, "images", ndim=4)
        return photos

    def one(photo: np.ndarray, name: str) -> np.ndarray:
        _check_photo(photo, name, ndim=3)
        return resize_photo(photo, size_in(_sides(photo.shape)), rule=rule)

    return Reader(whole, one)


def _data_reader(backbone: Backbone, rule: str, frame: tuple[int, int] | None) -> Reader:
    """Other data: of the network's own shape, or, with the rule "native", of any length along the spatial axes."""
    if frame is not None or rule == "crop":
        name, given = ("frame", frame) if frame is not None else ("resize", rule)
        raise ValueError(f"{name}: expected none for data other than photographs, which is not resized, got {given!r}")
    ready = functools.partial(_ready_data, shape=backbone.input_shape, any_size=rule == "native")
    return Reader(lambda examples: ready(examples, "images", several=True), functools.partial(ready, several=False))


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


def image_batches(images: Images, size_of: SizeOf, reader: Reader) -> Iterator[tuple[Image, int]]:
    """Batch after batch, each of images of one size.

    Args:
        images: see `explain`.
        size_of: the number of images in a batch, asked once for every run of images of one size.
        reader: what is taken, and how it gets to the size of the network.

    Returns:
        An iterator of (images, the number that `size_of` gave, which the last ones do not fill). Consecutive images of
        one size share a batch.

    Raises:
        ValueError: an image of another shape, dtype or range, by number.
    """
    whole = reader.whole(images) if isinstance(images, np.ndarray | jax.Array) else None
    if whole is not None:
        count = size_of(whole.shape[1:], whole.dtype)
        for start in range(0, len(whole), count):
            yield whole[start : start + count], count
        return
    ready = (reader.one(np.asarray(image), f"images[{index}]") for index, image in enumerate(images))
    for (shape, dtype), run in itertools.groupby(ready, key=lambda image: (image.shape, image.dtype)):
        count = size_of(shape, dtype)
        while group := list(itertools.islice(run, count)):
            yield np.stack(group), count


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width; ones where there are none, which is refused later."""
    height, width, *_ = (*shape, 1, 1)
    return max(1, height), max(1, width)


def _ready_data(examples: Any, name: str, *, several: bool, shape: tuple[int, ...], any_size: bool) -> Any:
    """Examples, or one, with their channel axis; refuses what is not of the network's shape, or holds no numbers."""
    found = examples.shape[1:] if several else examples.shape
    if shape[-1] == 1 and len(found) == len(shape) - 1:
        examples, found = examples[..., None], (*found, 1)
    if len(found) != len(shape) or found[-1] != shape[-1] or 0 in examples.shape or not (any_size or found == shape):
        bare = f" or {shape[:-1]}" if shape[-1] == 1 else ""
        advice = "" if any_size else "; other lengths go in with resize='native', where the network takes them"
        what = "examples" if several else "an example"
        raise ValueError(f"{name}: expected {what} of shape {shape}{bare}, got {found}{advice}")
    if not (jnp.issubdtype(examples.dtype, jnp.number) and not jnp.issubdtype(examples.dtype, jnp.complexfloating)):
        raise ValueError(f"{name}: expected real numbers, got {examples.dtype}")
    return examples


def _check_photo(image: Image, name: str, *, ndim: int) -> None:
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
