"""How much device memory a batch takes, how large a batch fits, and what to say where one did not."""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mlfem_jax import attribution
from mlfem_jax.backbones import Backbone, Forward
from mlfem_jax.engine.batch import Program, forward_program, run_batch
from mlfem_jax.parallel import Devices, chosen_devices, split

USED_SHARE = 0.9
"""How much of an accelerator's free memory a batch may take: its allocator cannot use every gap."""

HOST_SHARE = 0.5
"""How much of the host's free memory a batch may take on a CPU."""


def batch_bytes(
    backbone: Backbone,
    method: str | Callable[[Forward], Any],
    *,
    batch_size: int,
    size: tuple[int, ...] | None = None,
    dtype: Any = jnp.float32,
    image_dtype: Any = None,
    devices: Sequence[jax.Device] | None = None,
    classes: int | None = None,
    **options: Any,
) -> int:
    """Bytes of memory that explaining takes on each device: parameters, temporaries, and two batches under way.

    The function is compiled for that batch size, and nothing is computed: XLA lays out its memory when it compiles.
    The compiled function is kept, so a batch of that size then starts at once.

    Args:
        backbone: the network.
        method: one of `methods()`, or the function of a `map_batches`.
        batch_size: images in a batch, of all devices together; their number has to divide it.
        size: (height, width) in pixels of the images, or the lengths of other data; default: `backbone.input_size`.
        dtype: of the forward pass.
        image_dtype: of the images on their way to the device. Default: uint8 for photographs, float32 for other data.
        devices: see `explain`.
        classes: how many classes are explained for each image; None where it is the predicted one.
        **options: those of the method.

    Returns:
        The number of bytes. It leaves out what other programs hold, the maps that `explain` collects and, on a CPU,
        what library calls allocate while they run.

    Raises:
        ValueError: unknown method or option; the number of devices does not divide `batch_size`.
        NotImplementedError: the platform's compiler does not tell.

    Example:
        >>> def apply(params, inputs):
        ...     return inputs.mean(axis=(1, 2)), {"pixels": inputs * params}
        >>> tiny = from_function(apply, jnp.ones(()), input_size=(32, 32))
        >>> few, many = (batch_bytes(tiny, "fem", batch_size=n, devices=jax.devices()[:1]) for n in (1, 3))
        >>> few < many
        True
    """
    chosen = chosen_devices(devices)
    if batch_size < 1 or batch_size % len(chosen):
        raise ValueError(f"batch_size: expected a multiple of the {len(chosen)} devices, got {batch_size}")
    function = attribution.method(method, **options) if isinstance(method, str) else method
    image_dtype = image_dtype or (jnp.uint8 if backbone.photos else jnp.float32)
    images = jax.ShapeDtypeStruct((batch_size, *(size or backbone.input_size), backbone.channels), image_dtype)
    targets = None if classes is None else jax.ShapeDtypeStruct((batch_size, classes), jnp.int32)
    program = forward_program(backbone, function, dtype=dtype, devices=chosen)
    return program_bytes(program, (images, targets), batch_size=batch_size)


def program_bytes(program: Program, example: Any, *, batch_size: int) -> int:
    """As `batch_bytes`, of anything that is computed of a batch.

    Args:
        program: what is computed.
        example: a batch of any number of images, or its shapes and dtypes.
        batch_size: images in a batch, of all devices together, whose number divides it.

    Raises:
        NotImplementedError: the platform's compiler does not tell.
    """
    devices, shares = program.devices, split(program.devices)

    def layout_of(leaf):
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
        return jax.ShapeDtypeStruct((batch_size, *leaf.shape[1:]), dtype, sharding=shares)

    batch = jax.tree.map(layout_of, example)
    lowered = run_batch.lower(
        program.whole, batch, function=program.function, settings=program.settings, devices=devices
    )
    layout = lowered.compile().memory_analysis()
    if layout is None:
        raise NotImplementedError(f"{devices[0].platform} does not tell the memory of a function: give a batch size")
    first = layout.argument_size_in_bytes + layout.output_size_in_bytes - layout.alias_size_in_bytes
    incoming = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(batch)) // len(devices)
    second = incoming + layout.output_size_in_bytes
    return first + second + layout.temp_size_in_bytes + layout.generated_code_size_in_bytes


def free_bytes(devices: Devices) -> int | None:
    """What a batch may take of the free memory of each device.

    Args:
        devices: those that the batch is split over.

    Returns:
        `USED_SHARE` of what the fullest device has left of its limit. On a CPU, which has none, `HOST_SHARE` of the
        host's free memory, divided among the devices. None where the platform does not tell.
    """
    if devices[0].platform == "cpu":
        free = _free_host_bytes()
        return None if free is None else int(HOST_SHARE * free) // len(devices)
    return _free_device_bytes([device.memory_stats() or {} for device in devices])


def _free_device_bytes(stats: Sequence[Mapping[str, int]]) -> int | None:
    if not all("bytes_limit" in one for one in stats):
        return None
    return int(USED_SHARE * min(one["bytes_limit"] - one.get("bytes_in_use", 0) for one in stats))


def _free_host_bytes() -> int | None:
    """Of this machine or, where that is less, of the control group that this process runs in."""
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if not meminfo.is_file():  # not Linux: all its memory, where the platform tells that
        known = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else None
    free = 1024 * int(re.findall(r"^MemAvailable: +(\d+) kB", meminfo.read_text(), re.MULTILINE)[0])
    with contextlib.suppress(OSError, ValueError):  # no such group, or no limit ("max")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, max(limit - used, 0))
    return free


def most_images(devices: Devices) -> int:
    """Where the search for a batch size ends, in images a device.

    A CPU computes a batch in small parts anyway. A TPU keeps the activations of few images in its vector memory: with
    16, ResNet-50's bare forward is bound at 22,600 images/s; 256 move 11 GB, at 15,400 (compiled for a v5e).
    """
    return {"cpu": 32, "tpu": 16}.get(devices[0].platform, 256)


def largest_batch(bytes_of: Callable[[int], float], *, most: int, limit: int | None) -> int:
    """The largest batch that fits: `most`, or else the largest power of two below it.

    Bytes grow by at most as much as images, so what one size needs tells which to try next: few are compiled.

    Args:
        bytes_of: batch size to bytes; infinity where all that is known is that it does not fit.
        most: the largest size that is of use.
        limit: bytes; None is no limit.

    Returns:
        The number of images; 0 where not even one fits.

    Example:
        >>> largest_batch(lambda images: 100 + 10 * images, most=256, limit=500)
        32
    """
    size = most
    while limit is not None and size > 0 and (needed := bytes_of(size)) > limit:
        guess = min(size - 1, int(size * limit / needed)) if math.isfinite(needed) else size // 2
        size = 1 << guess.bit_length() - 1 if guess else 0
    return size


def fitting_share(needed: Callable[..., int], *, most: int, devices: Devices) -> int:
    """The images a device of the largest batch that fits, at least one: only trying tells that not even one fits.

    Args:
        needed: `program_bytes` with all its arguments but `batch_size`.
        most: see `largest_batch`, in images a device.
        devices: those that the batch is split over.
    """
    return max(largest_batch(_bytes_of(needed, devices), most=most, limit=free_bytes(devices)), 1)


@contextlib.contextmanager
def exhaustion_explained(needed: Callable[..., int], *, batch_size: int, devices: Devices) -> Iterator[None]:
    """Makes of a device's "out of memory" an error that says what the batch needs, and how large a batch would fit.

    Args:
        needed: `program_bytes` with all its arguments but `batch_size`.
        batch_size: the images of the batch that is computed in the block.
        devices: those that it is split over.

    Raises:
        MemoryError: the memory of a device did not suffice.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not _is_exhaustion(error):
            raise
        bytes_of, share, free = _bytes_of(needed, devices), batch_size // len(devices), free_bytes(devices)
        fits = len(devices) * largest_batch(bytes_of, most=share // 2, limit=free)
        amount = f"{bytes_of(share) / 2**30:.2f} GiB" if math.isfinite(bytes_of(share)) else "more than there is"
        usable = "" if free is None else f" ({free / 2**30:.2f} GiB can be used)"
        advice = f"{fits} would fit; 'auto' looks for the largest that does" if fits else "not even one image fits"
        where = f"each of {len(devices)} devices" if len(devices) > 1 else str(devices[0])
        raise MemoryError(
            f"batch_size: expected a batch that fits the memory of {where}{usable}, "
            f"got {batch_size} images, which need {amount}; {advice}"
        ) from error


def _bytes_of(needed: Callable[..., int], devices: Devices) -> Callable[[int], float]:
    """Images a device to bytes; infinity where the compiler already runs out of memory, as it does for a TPU."""

    def bytes_of(share: int) -> float:
        try:
            return float(needed(batch_size=share * len(devices)))
        except jax.errors.JaxRuntimeError as error:
            if not _is_exhaustion(error):
                raise
            return math.inf

    return bytes_of


def _is_exhaustion(error: jax.errors.JaxRuntimeError) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error)
