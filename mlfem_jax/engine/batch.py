"""One batch on one or many devices: the forward pass, and what is asked of it, in one compiled function."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array

from mlfem_jax.backbones import Backbone, Forward
from mlfem_jax.parallel import Devices, over_shares


@functools.partial(jax.jit, static_argnames=("function", "dtype", "devices"))
def run_batch(
    backbone: Backbone,
    images: Array,
    targets: Array | None,
    *,
    function: Callable[[Forward], Any],
    dtype: Any,
    devices: Devices,
) -> Any:
    """`function` of the forward pass of a batch.

    Args:
        backbone: the network, its parameters on all devices, see `replicate`.
        images: (N, H, W, 3), `split` over the devices, whose number divides N.
        targets: (N, K) classes, split likewise; None is the predicted one.
        function: from a `Forward` to a pytree of arrays whose first axis is the image. Each image counts for itself:
            the batch is cut into the devices' shares, and those on a CPU into parts.
        dtype: of the forward pass.
        devices: one or several.

    Returns:
        What `function` returns, for the whole batch, split over the devices.
    """

    def run(backbone, part):
        images, targets = part
        inputs = backbone.preprocess(images).astype(dtype)
        logits, activations = backbone.apply(backbone.params, inputs)
        return function(Forward(backbone, inputs, logits, activations, targets))

    return over_shares(run, devices)(backbone, (images, targets))
