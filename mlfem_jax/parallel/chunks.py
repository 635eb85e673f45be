"""Some at a time: a batch in cache-sized parts on a CPU, and many perturbed copies without the memory of all."""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool


def over_chunks(function: Callable[[Any], Any], items: Any, size: int) -> Any:
    """`function` of a pytree whose leaves have the items first; of at most `size` of them at a time.

    Args:
        function: of some items, each of which counts for itself, to a pytree whose leaves have the item first.
        items: all of them. They are cut into equal chunks, the last item repeated where they do not split evenly.
        size: most items in a chunk, which bounds the memory.

    Returns:
        What `function` of all items would return; items that fill up are cut off again.

    Example:
        >>> over_chunks(jnp.negative, jnp.arange(5), 2)
        Array([ 0, -1, -2, -3, -4], dtype=int32)
    """
    chunks, used = _chunks(items, size)
    if len(used) == 1:
        return function(items)
    outputs = jax.lax.map(function, chunks)
    return jax.tree.map(lambda leaf: leaf.reshape(used.size, *leaf.shape[2:])[: used.sum()], outputs)


def map_chunks(function: Callable[[Any], Any], items: Any, size: int) -> Any:
    """`function` of each item of a pytree's leading axis, stacked; `size` items at a time, see `over_chunks`."""
    return over_chunks(jax.vmap(function), items, size)


def sum_chunks(function: Callable[[Any], Any], items: Any, size: int) -> Any:
    """The sum over items of what `function` returns for each; `size` items at a time."""
    chunks, used = _chunks(items, size)

    def add(total, step):
        chunk, used = step
        values = jax.vmap(lambda item, used: _where(used, function(item)))(chunk, used)
        return jax.tree.map(lambda total, value: total + value.sum(axis=0), total, values), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0, 0], chunks))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    return jax.lax.scan(add, zeros, (chunks, jnp.asarray(used)))[0]


def _where(used: Bool[Array, ""], values: Any) -> Any:
    return jax.tree.map(lambda value: jnp.where(used, value, jnp.zeros_like(value)), values)


def _chunks(items: Any, size: int) -> tuple[Any, np.ndarray]:
    """The leading axis cut into equal chunks of at most `size`, the last item repeated to fill; and which are real."""
    count = jax.tree.leaves(items)[0].shape[0]
    steps = -(-count // max(size, 1))
    size = -(-count // steps)
    index = np.arange(steps * size)

    def chunked(leaf):
        filled = leaf if len(index) == count else leaf[np.minimum(index, count - 1)]
        return filled.reshape(steps, size, *leaf.shape[1:])

    return jax.tree.map(chunked, items), (index < count).reshape(steps, size)


def chunk_size(images: int, internal_batch_size: int, platform: str | None = None) -> int:
    """How many perturbations of each of so many images fit in a forward pass of at most `internal_batch_size` images.

    On a CPU fewer, see `images_at_once`, which says what `platform` is.

    Raises:
        ValueError: `internal_batch_size` is less than 1.
    """
    if internal_batch_size < 1:
        raise ValueError(f"internal_batch_size: expected at least 1, got {internal_batch_size}")
    return max(images_at_once(internal_batch_size, platform) // images, 1)


def images_at_once(most: int, platform: str | None = None) -> int:
    """How many images a forward pass should hold: `most`, or on a CPU at most two a core.

    Their activations then stay in the cache, which made the forward pass of EfficientNet-Lite0 1.7 times as fast as
    with 64 at once.

    Args:
        most: images.
        platform: of the devices, such as "cpu"; None is JAX's default, where the devices are not known.
    """
    on_cpu = (platform or jax.default_backend()) == "cpu"
    return max(1, min(most, 2 * (os.cpu_count() or 1))) if on_cpu else most


def in_parts(function: Callable[[Any], Any], batch: Any, *, platform: str) -> Any:
    """function(batch), of a pytree whose leaves have the image first; on a CPU in equal parts, see `images_at_once`.

    A batch that does not split into parts of one or two images a core is computed whole.

    Args:
        function: of images, each of which counts for itself.
        batch: of images.
        platform: of the devices that compute it. Only a CPU's cache is so small that parts are faster.
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    if platform != "cpu":
        return function(batch)
    most = images_at_once(size, platform)
    part = next((part for part in range(most // 2 or 1, most + 1) if size % part == 0), size)
    return over_chunks(function, batch, part)
