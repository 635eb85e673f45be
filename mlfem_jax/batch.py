"""One batch on one or many devices: the forward pass, and what is asked of it, in one compiled function."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import Array

from mlfem_jax.attribution.base import Forward
from mlfem_jax.backbones.base import Backbone
from mlfem_jax.parts import in_parts

Devices = tuple[jax.Device, ...]


def chosen_devices(devices: Sequence[jax.Device] | None) -> Devices:
    """The devices that a batch is split over.

    Args:
        devices: those asked for; None is all of this process, or the one that `jax.default_device` names.

    Raises:
        ValueError: no device, or the same one twice.
    """
    if devices is None:
        default = jax.config.jax_default_device  # pyrefly: ignore[missing-attribute]
        return (default,) if isinstance(default, jax.Device) else tuple(jax.local_devices(backend=default))
    if not devices or len(set(devices)) < len(devices):
        raise ValueError(f"devices: expected at least one device, each of them once, got {devices}")
    return tuple(devices)


def replicate(tree: Any, devices: Devices) -> Any:
    """A pytree of arrays, such as a backbone, whole on each device; itself, where it is there."""
    where = _sharding(devices, PartitionSpec())
    leaves = jax.tree.leaves(tree)
    # Asking takes microseconds, where putting takes a millisecond: a tenth of a batch on a fast device.
    there = all(isinstance(leaf, jax.Array) and leaf.sharding == where for leaf in leaves)
    return tree if there else jax.device_put(tree, where)


def split(devices: Devices) -> NamedSharding | SingleDeviceSharding:
    """Where a batch lies: an equal share of its images on each device."""
    return _sharding(devices, PartitionSpec("images"))


def _sharding(devices: Devices, spec: PartitionSpec) -> NamedSharding | SingleDeviceSharding:
    return SingleDeviceSharding(devices[0]) if len(devices) == 1 else NamedSharding(_mesh(devices), spec)


def _mesh(devices: Devices) -> Mesh:
    return Mesh(np.array(devices), ("images",))


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


def over_shares(function: Callable[[Any, Any], Any], devices: Devices) -> Callable[[Any, Any], Any]:
    """function(whole, batch), the batch cut into the devices' shares, and those on a CPU into parts.

    Args:
        function: of something that all images need, and of images, each of which counts for itself: no sum over them.
        devices: `whole` is on each of them, the batch `split` over them.
    """

    def of_share(whole, share):
        return in_parts(functools.partial(function, whole), share)

    if len(devices) == 1:
        return of_share
    by_image = PartitionSpec("images")
    # Nothing is summed over images, so there is nothing for the check of what varies over the mesh to find.
    return jax.shard_map(
        of_share, mesh=_mesh(devices), in_specs=(PartitionSpec(), by_image), out_specs=by_image, check_vma=False
    )
