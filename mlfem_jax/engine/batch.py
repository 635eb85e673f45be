"""One batch on one or many devices: whatever is asked of its images, in one compiled function."""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlfem_jax.backbones import Backbone, Forward, forward_pass
from mlfem_jax.parallel import Devices, over_shares, replicate

Function = Callable[[Any, Any, Any], Any]
"""(what all images need, a pytree of arrays whose first axis is the image, settings) to a pytree likewise."""


@dataclasses.dataclass(frozen=True)
class Program:
    """What is computed of every batch, and where.

    Attributes:
        function: of (`whole`, a batch, `settings`). Each image counts for itself: the batch is cut into the devices'
            shares, and those on a CPU into parts. It is compiled once for each shape of batch: pass the same function
            object again, with equal settings, to use what was compiled.
        whole: a pytree of what all images need, such as the backbone, on each of the devices.
        settings: what else decides the result; part of what is compiled.
        devices: those that a batch is split over.
    """

    function: Function
    whole: Any
    settings: Hashable
    devices: Devices


@functools.partial(jax.jit, static_argnames=("function", "settings", "devices"))
def run_batch(whole: Any, batch: Any, *, function: Function, settings: Hashable, devices: Devices) -> Any:
    """What `function` returns for a batch, whose number of images the devices divide; split over them, as the batch.

    Args:
        whole: see `Program`.
        batch: a pytree of arrays whose first axis is the image, `split` over the devices.
        function: see `Program`.
        settings: see `Program`.
        devices: see `Program`.
    """
    return over_shares(lambda whole, part: function(whole, part, settings), devices)(whole, batch)


def forward_program(
    backbone: Backbone,
    function: Callable[[Forward], Any],
    *,
    dtype: Any,
    devices: Devices,
    platform: str | None = None,
) -> Program:
    """The program of `function` of the forward pass of (images, targets), in `dtype`; see `forward_pass`.

    Args:
        backbone: the network.
        function: from a `Forward` to a pytree of arrays whose first axis is the image.
        dtype: of the forward pass.
        devices: that a batch is split over.
        platform: that it is traced for. Default: that of the devices; another is for what is only compiled.
    """
    dtype, platform = jnp.dtype(dtype), platform or devices[0].platform
    return Program(_of_forward, replicate(backbone.astype(dtype), devices), (function, dtype, platform), devices)


def _of_forward(backbone: Backbone, batch: Any, settings: tuple[Callable[[Forward], Any], np.dtype, str]) -> Any:
    images, targets = batch
    function, dtype, platform = settings
    return function(forward_pass(backbone, images, targets, dtype=dtype, platform=platform))


def padded(batch: Any, size: int) -> Any:
    """A pytree of arrays, on the host or the device, filled up with zeros to `size` images."""

    def filled(leaf):
        if len(leaf) == size:
            return leaf
        module = jnp if isinstance(leaf, jax.Array) else np
        return module.pad(leaf, [(0, size - len(leaf))] + [(0, 0)] * (leaf.ndim - 1))

    return jax.tree.map(filled, batch)
