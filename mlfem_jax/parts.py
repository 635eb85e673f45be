"""A batch computed in parts, one after the other: faster on a CPU, whose cache a whole batch overflows."""

import os
from collections.abc import Callable
from typing import Any

import jax


def images_at_once(most: int) -> int:
    """How many images a forward pass should hold: `most`, or on a CPU at most two a core.

    Their activations then stay in the cache, which made the forward pass of EfficientNet-Lite0 1.7 times as fast as
    with 64 at once.
    """
    return most if jax.default_backend() != "cpu" else max(1, min(most, 2 * (os.cpu_count() or 1)))


def in_parts(function: Callable[[Any], Any], batch: Any) -> Any:
    """function(batch), of a pytree whose leaves have the image first; in equal parts where `images_at_once` says so.

    A batch that does not split into parts of one or two images a core is computed whole.
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    most = images_at_once(size)
    part = next((part for part in range(most // 2 or 1, most + 1) if size % part == 0), size)
    if part == size:
        return function(batch)
    split = jax.tree.map(lambda leaf: leaf.reshape(size // part, part, *leaf.shape[1:]), batch)
    return jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:]), jax.lax.map(function, split))
