"""The loop over batches: padding, one compiled function, many devices, outputs of batch after batch."""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from mlfem_jax.backbones import Backbone, Forward
from mlfem_jax.engine.batch import run_batch
from mlfem_jax.engine.images import Image, Images, image_batches
from mlfem_jax.engine.memory import batch_bytes, exhaustion_explained, fitting_share, most_images
from mlfem_jax.parallel import Devices, chosen_devices, replicate, split

BatchSize = int | Literal["auto"]


def map_images(
    backbone: Backbone,
    images: Images,
    *,
    function: Callable[[Forward], Any],
    targets: np.ndarray | None,
    batch_size: BatchSize,
    dtype: Any,
    resize: str,
    devices: Sequence[jax.Device] | None,
) -> Iterator[tuple[Any, int]]:
    """The outputs of batch after batch; one is computed while the last is used.

    Args:
        backbone: see `explain`.
        images: see `explain`.
        function: from a `Forward` to a pytree of arrays whose first axis is the image.
        targets: (N, K) classes of the images, (1, K) for all of them, or None.
        batch_size: see `explain`.
        dtype: see `explain`.
        resize: see `explain`.
        devices: see `explain`.

    Returns:
        An iterator of (outputs of a padded batch, how many of them are real).

    Raises:
        ValueError: see `explain`.
        MemoryError: see `explain`.
    """
    chosen, most = _devices_and_share(images, batch_size, devices)
    dtype = jnp.dtype(dtype)
    backbone = replicate(backbone.astype(dtype), chosen)
    classes = None if targets is None else targets.shape[1]
    needed = functools.partial(batch_bytes, backbone, function, dtype=dtype, devices=chosen, classes=classes)

    @functools.cache
    def images_in_batch(shape: tuple[int, ...], image_dtype: Any) -> int:
        if batch_size != "auto":
            return most * len(chosen)
        of_size = functools.partial(needed, size=shape[:2], image_dtype=image_dtype)
        return fitting_share(of_size, most=most, devices=chosen) * len(chosen)

    running: deque[tuple[Callable[[], Any], int]] = deque()
    start = 0
    for batch, count in image_batches(images, images_in_batch, backbone.input_size, rule=resize):
        rows = None if targets is None else _rows(targets, start, count, len(batch))
        start += count
        finish = _start(backbone, batch, rows, function=function, dtype=dtype, devices=chosen, needed=needed)
        running.append((finish, count))
        if len(running) == 2:
            finish, count = running.popleft()
            yield finish(), count
    for finish, count in running:
        yield finish(), count


def _start(
    backbone: Backbone,
    batch: Image,
    targets: np.ndarray | None,
    *,
    function: Callable[[Forward], Any],
    dtype: Any,
    devices: Devices,
    needed: Callable[..., int],
) -> Callable[[], Any]:
    """Starts computing a batch; what it returns waits for the outputs. Either may find that memory does not suffice."""
    of_batch = functools.partial(needed, size=batch.shape[1:3], image_dtype=batch.dtype)
    explained = functools.partial(exhaustion_explained, of_batch, batch_size=len(batch), devices=devices)
    with explained():
        arrays = jax.device_put((batch, targets), split(devices))
        outputs = run_batch(backbone, *arrays, function=function, dtype=dtype, devices=devices)

    def finish() -> Any:
        with explained():
            return jax.block_until_ready(outputs)

    return finish


def _devices_and_share(
    images: Images, batch_size: BatchSize, devices: Sequence[jax.Device] | None
) -> tuple[Devices, int]:
    """The devices that have something to do, and how many images of a batch each of them gets at most."""
    if batch_size != "auto" and (batch_size < 1 or batch_size % 1):
        whole = "" if batch_size < 1 else "a whole number, "
        raise ValueError(f"batch_size: expected {whole}at least 1, got {batch_size}")
    chosen = chosen_devices(devices)
    most = most_images(chosen) * len(chosen) if batch_size == "auto" else batch_size
    if not isinstance(images, Iterator):
        most = min(most, len(images))
    chosen = chosen[:most]
    return chosen, -(-most // len(chosen))


def _rows(targets: np.ndarray, start: int, count: int, size: int) -> np.ndarray:
    """The targets of one batch, padded as its images are; a single row is for all images."""
    if len(targets) == 1:
        return np.repeat(targets, size, axis=0)
    return np.pad(targets[start : start + count], [(0, size - count), (0, 0)])
