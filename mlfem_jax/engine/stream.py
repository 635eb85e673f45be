"""The loop over batches: double buffer, padding, one compiled function, many devices, memory that is explained."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

import jax

from mlfem_jax.engine.batch import Program, padded, run_batch
from mlfem_jax.engine.memory import exhaustion_explained, fitting_share, most_images, program_bytes
from mlfem_jax.parallel import split

BatchSize = int | Literal["auto"]
"""Images in a forward pass; "auto" is as many as fit."""
Note = TypeVar("Note")


def run_batches(program: Program, batches: Iterable[tuple[Note, Any]]) -> Iterator[tuple[Note, Any]]:
    """The outputs of batch after batch; one is computed while the last is used.

    Args:
        program: what is computed of each batch.
        batches: (what the caller wants to know of the batch, a pytree of arrays whose first axis is the image), on the
            host or the device. Where the devices do not divide the number of images, zeros fill the batch up.

    Returns:
        An iterator of (what the caller wanted to know, outputs on the devices), padding included.

    Raises:
        MemoryError: the memory of a device does not suffice for a batch; it says what that needs, and what would fit.

    Example:
        >>> program = Program(lambda base, batch, power: base + batch**power, jnp.int32(1), 2, (jax.devices()[0],))
        >>> batches = [("a", np.arange(3)), ("b", np.ones(3, int))]
        >>> [(name, outputs.tolist()) for name, outputs in run_batches(program, batches)]
        [('a', [1, 2, 5]), ('b', [2, 2, 2])]
    """
    running: deque[tuple[Note, Callable[[], Any]]] = deque()
    for note, batch in batches:
        running.append((note, _start(program, batch)))
        if len(running) == 2:
            note, finish = running.popleft()
            yield note, finish()
    for note, finish in running:
        yield note, finish()


def _start(program: Program, batch: Any) -> Callable[[], Any]:
    """Starts computing a batch; what it returns waits for the outputs. Either may find that memory does not suffice."""
    devices, count = program.devices, len(jax.tree.leaves(batch)[0])
    size = -(-count // len(devices)) * len(devices)
    # Of the batch itself nothing is kept: the host may forget it as soon as the devices have it.
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
    needed = functools.partial(program_bytes, program, shapes)
    explained = functools.partial(exhaustion_explained, needed, batch_size=size, devices=devices)
    with explained():
        arrays = jax.device_put(padded(batch, size), split(devices))
        outputs = run_batch(
            program.whole, arrays, function=program.function, settings=program.settings, devices=devices
        )

    def finish() -> Any:
        with explained():
            return jax.block_until_ready(outputs)

    return finish


def images_in_batch(program: Program, example: Any, batch_size: BatchSize, *, most: int | None = None) -> int:
    """The number of images that a batch should hold: a multiple of the devices.

    Args:
        program: what is computed of a batch.
        example: a batch of any number of images, or its shapes and dtypes.
        batch_size: what was asked for, which is rounded up; or "auto", what fits the devices' memory.
        most: how many images there are, where that is known.

    Raises:
        ValueError: a batch size below 1.
    """
    check_batch_size(batch_size)
    devices = program.devices
    if batch_size != "auto":
        return -(-batch_size // len(devices)) * len(devices)
    share = most_images(devices) if most is None else min(most_images(devices), -(-most // len(devices)))
    needed = functools.partial(program_bytes, program, example)
    return fitting_share(needed, most=share, devices=devices) * len(devices)


def check_batch_size(batch_size: BatchSize) -> None:
    """Refuses an empty batch.

    Raises:
        ValueError: a batch size below 1, or between two whole numbers.
    """
    if batch_size != "auto" and (batch_size < 1 or batch_size % 1):
        whole = "" if batch_size < 1 else "a whole number, "
        raise ValueError(f"batch_size: expected {whole}at least 1, got {batch_size}")
