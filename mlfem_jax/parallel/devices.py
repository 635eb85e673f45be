"""Batches split over devices, and what all of them need copied to each."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from mlfem_jax.parallel.chunks import in_parts

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


def over_shares(function: Callable[[Any, Any], Any], devices: Devices) -> Callable[[Any, Any], Any]:
    """function(whole, batch), the batch cut into the devices' shares, and those on a CPU into parts.

    Args:
        function: of something that all images need, and of images, each of which counts for itself: no sum over them.
        devices: `whole` is on each of them, the batch `split` over them.
    """

    def of_share(whole, share):
        return in_parts(functools.partial(function, whole), share, platform=devices[0].platform)

    if len(devices) == 1:
        return of_share
    by_image = PartitionSpec("images")
    # Nothing is summed over images, so there is nothing for the check of what varies over the mesh to find.
    return jax.shard_map(
        of_share, mesh=_mesh(devices), in_specs=(PartitionSpec(), by_image), out_specs=by_image, check_vma=False
    )


def on_host() -> contextlib.AbstractContextManager[Any]:
    """Within the block arrays are made in the host's memory, and not on the first device.

    Where JAX was told to leave the CPU out (`JAX_PLATFORMS=cuda`) there is no such place, and nothing changes.
    """
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return contextlib.nullcontext()


LARGE = 2**20
"""An array of a training state of so many numbers is a large one."""


def batch_sharding(
    batch_size: int, devices: Sequence[jax.Device] | None = None, *, shards: int = 1
) -> tuple[NamedSharding, NamedSharding]:
    """(of a batch, of what each device has whole): batches split along their first axis over all devices.

    The devices are a mesh of the axes "data" and "model"; see `state_sharding` for the latter.

    Args:
        batch_size: examples in a batch of all processes together.
        devices: default: all, of all processes.
        shards: devices along the axis "model".

    Raises:
        ValueError: the batch does not split evenly; nor do the devices.

    Example:
        >>> over_batch, on_each = batch_sharding(4, jax.devices()[:1])
        >>> on_each.mesh.shape["data"], on_each.mesh.shape["model"], on_each.is_fully_replicated
        (1, 1, True)
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % len(devices):
        raise ValueError(f"batch_size: expected a multiple of the {len(devices)} devices, got {batch_size}")
    if shards < 1 or len(devices) % shards:
        raise ValueError(f"shards: expected a divisor of the {len(devices)} devices, got {shards}")
    mesh = Mesh(np.array(devices).reshape(-1, shards), ("data", "model"))
    return NamedSharding(mesh, PartitionSpec(("data", "model"))), NamedSharding(mesh, PartitionSpec())


def state_sharding(state: Any, on_each: NamedSharding) -> Any:
    """Where each array of a training state, or of a gradient, lies, so that no device holds all of a large one.

    Args:
        state: a pytree of arrays, or of their shapes.
        on_each: from `batch_sharding`.

    Returns:
        A pytree of shardings: an array of `LARGE` numbers is split over the mesh's axis "model", along the last of its
        axes that splits evenly; what is smaller, or splits nowhere, is on each device.

    Example:
        >>> _, on_each = batch_sharding(4, jax.devices()[:1])
        >>> state_sharding({"kernel": jax.ShapeDtypeStruct((2048, 1000), "float32")}, on_each)["kernel"].spec
        P(None, 'model')
    """
    shards = on_each.mesh.shape["model"]

    def where(leaf: Any) -> NamedSharding:
        even = [axis for axis, length in enumerate(leaf.shape) if length % shards == 0]
        split_axes = [None] * even[-1] + ["model"] if even and leaf.size >= LARGE else []
        return NamedSharding(on_each.mesh, PartitionSpec(*split_axes))

    return jax.tree.map(where, state)


def put_state(state: Any, shardings: Any) -> Any:
    """The arrays on the devices, each device its part; every process has all of them.

    Args:
        state: a pytree of arrays.
        shardings: of each, from `state_sharding`.
    """

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, state, shardings)


def put_batch(batch: Any, sharding: NamedSharding) -> Any:
    """The arrays on the devices, each process having given its own share of the batch.

    Args:
        batch: a pytree of NumPy arrays: this process's examples.
        sharding: of the batch of all processes, from `batch_sharding`.

    Returns:
        A pytree of arrays of the whole batch: the examples of the first process, then those of the next.
    """
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch)
