"""One batch on one or many devices: the forward pass, and what is asked of it, in one compiled function."""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import Array

from mlfem_jax.attribution.base import Forward
from mlfem_jax.backbones.base import Backbone

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


def replicate(backbone: Backbone, devices: Devices) -> Backbone:
    """The backbone with its parameters whole on each device; itself, where they are there."""
    where = _sharding(devices, PartitionSpec())
    leaves = jax.tree.leaves(backbone)
    # Asking takes microseconds, where putting takes a millisecond: a tenth of a batch on a fast device.
    there = all(isinstance(leaf, jax.Array) and leaf.sharding == where for leaf in leaves)
    return backbone if there else jax.device_put(backbone, where)


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

    def run_share(backbone, share):
        parts = _cache_sized_parts(len(share[0]), devices)
        if parts == 1:
            return run(backbone, share)
        cut = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), share)
        outputs = jax.lax.map(functools.partial(run, backbone), cut)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), outputs)

    if len(devices) == 1:
        return run_share(backbone, (images, targets))
    by_image = PartitionSpec("images")
    # Nothing is summed over images, so there is nothing for the check of what varies over the mesh to find.
    sharded = jax.shard_map(
        run_share, mesh=_mesh(devices), in_specs=(PartitionSpec(), by_image), out_specs=by_image, check_vma=False
    )
    return sharded(backbone, (images, targets))


def _cache_sized_parts(images: int, devices: Devices) -> int:
    """How many equal parts a device's share is computed in, one after the other.

    On a CPU one or two images a core, whose activations then stay in its cache: FEM reads each of them three times.
    """
    if devices[0].platform != "cpu":
        return 1
    cores = math.ceil((os.cpu_count() or 1) / len(devices))  # simulated devices share the machine's cores
    return next((images // size for size in range(cores, 2 * cores + 1) if images % size == 0), 1)
