"""What is timed of this library: calls over batches of noise, and the memory traffic of a batch."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import mlfem_jax as mlfem
from eval.benchmarks.common import noise
from mlfem_jax.attribution import layer_stacks, method
from mlfem_jax.backbones import Backbone, Forward
from mlfem_jax.data import Batch
from mlfem_jax.engine import forward_program, run_batch
from mlfem_jax.fusion import PACKAGED
from mlfem_jax.parallel import chosen_devices, replicate, split
from mlfem_jax.scores import Plan, score_batches


@dataclasses.dataclass(frozen=True)
class Config:
    """How fast the maps come.

    Attributes:
        backbones: networks to time.
        methods: methods to time on each of them; "net" only where the package holds its weights.
        batch_size: images in a batch.
        batches: in a call, one behind the other, as over a data set.
        large: (height, width) of the second size; its batches are smaller.
        large_batch_size: images in a batch of that size; 0 leaves it out.
        dtype: of the forward pass.
        repeats: calls of each kind; their median counts.
        reading: JPEG files of 480x640 to write to a temporary folder, read and score; 0 leaves that out.
        workers: processes that read; 0 is threads of this process.
        compare: also time PyTorch and its explainers, at the first size.
        out: JSON file to write.
    """

    backbones: tuple[str, ...] = ("efficientnet_lite0", "resnet50")
    methods: tuple[str, ...] = ("fem", "max", "add", "mean", "net")
    batch_size: int = 16
    batches: int = 1
    large: tuple[int, int] = (480, 640)
    large_batch_size: int = 4
    dtype: Literal["float32", "bfloat16"] = "float32"
    repeats: int = 9
    reading: int = 256
    workers: int = 0
    compare: bool = False
    out: Path | None = None


FIXATIONS = 80
SIGMA_PX = 24.0


@dataclasses.dataclass(frozen=True)
class Call:
    """A call that is timed.

    Attributes:
        run: does the work and returns its results.
        images: in a call.
        returned: images that the results are of: those of the last batch, or all.
    """

    run: Callable[[], Any]
    images: int
    returned: int


def our_calls(backbone: Backbone, size: tuple[int, int], batch_size: int, config: Config) -> dict[str, Call]:
    """What is timed at one size, the bare forward first.

    Args:
        backbone: in the dtype of the forward pass.
        size: (height, width) of the images.
        batch_size: images in a batch.
        config: of the run.
    """
    backbone = dataclasses.replace(backbone, input_size=size)
    count = batch_size * config.batches
    images = jnp.asarray(noise(count, *size, 3))
    calls = {"bare forward": _bare(backbone, images, batch_size, config.dtype)}
    for name, options in _methods(backbone, size, config):
        run = functools.partial(
            mlfem.explain, backbone, images, method=name, batch_size=batch_size, dtype=config.dtype, **options
        )
        calls[" ".join([name, *options.values()])] = Call(run, count, count)
    calls["stack of all layers' maps"] = _on_device(backbone, images, batch_size, layer_stacks, config.dtype)
    plan = Plan((("add", method("add")),), ("pcc", "similarity"), sigma_px=SIGMA_PX, dtype=config.dtype)
    totals = np.zeros(size, np.int32)  # only the shuffled AUC needs them
    batches = [_gaze_batch(np.asarray(images[:batch_size]))] * config.batches
    run = functools.partial(_last, lambda: (scores for _, scores in score_batches(backbone, batches, plan, totals)))
    calls["add, PCC and SIM against the GFDM"] = Call(run, count, batch_size)
    return calls


def traffic(backbone: Backbone, config: Config) -> list[dict[str, Any]]:
    """Megabytes that one image moves, as XLA's cost analysis counts them, and the floor: each activation read once.

    The batch is of one image on one device, which no platform cuts into parts.
    """
    devices = chosen_devices(None)[:1]
    image = jax.ShapeDtypeStruct((1, *backbone.input_size, 3), jnp.uint8)

    def moved(function: Callable[[Forward], Any]) -> float:
        program = forward_program(backbone, function, dtype=config.dtype, devices=devices)
        lowered = run_batch.lower(
            program.whole, (image, None), function=program.function, settings=program.settings, devices=devices
        )
        return (lowered.compile().cost_analysis() or {}).get("bytes accessed", np.nan) / 1e6

    inputs = jax.ShapeDtypeStruct(image.shape, config.dtype)
    activations = jax.eval_shape(backbone.apply, backbone.params, inputs)[1].values()
    read_once = sum(activation.size * activation.dtype.itemsize for activation in activations) / 1e6
    bare, one, stack = moved(_logits), moved(method("add")), moved(layer_stacks)
    return [
        {
            "backbone": backbone.name,
            "bare forward": bare,
            "add": one,
            "stack": stack,
            "add less bare": one - bare,
            "floor of that: each activation once": read_once,
        }
    ]


def _methods(backbone: Backbone, size: tuple[int, int], config: Config) -> list[tuple[str, dict[str, str]]]:
    """Methods with their options; the packaged fusions only for the network and the frame they were trained for."""
    packaged = [(kind, frames) for (kind, name), frames in PACKAGED.items() if name == backbone.name]
    trained = [{"architecture": kind} for kind, frames in packaged if size in frames]
    return [(name, one) for name in config.methods for one in (trained if name == "net" else [{}])]


def _logits(forward: Forward) -> Any:
    return forward.logits


def _bare(backbone: Backbone, images: jax.Array, batch_size: int, dtype: str) -> Call:
    """The forward pass alone, of whole batches, by the plainest JAX there is."""
    devices = chosen_devices(None)
    params = replicate(backbone, devices).params

    @jax.jit
    def forward(params, images):
        return backbone.apply(params, backbone.preprocess(images).astype(dtype))[0]

    parts = [jax.device_put(part, split(devices)) for part in _parts(images, batch_size)]
    return Call(lambda: _last(lambda: (forward(params, part) for part in parts)), len(images), batch_size)


def _on_device(backbone: Backbone, images: jax.Array, batch_size: int, function: Callable, dtype: str) -> Call:
    """`function` of every batch, its results left on the devices and dropped but for the last."""
    devices = chosen_devices(None)
    program = forward_program(backbone, function, dtype=dtype, devices=devices)
    run = functools.partial(run_batch, function=program.function, settings=program.settings, devices=devices)
    parts = [jax.device_put(part, split(devices)) for part in _parts(images, batch_size)]
    return Call(lambda: _last(lambda: (run(program.whole, (part, None)) for part in parts)), len(images), batch_size)


def _parts(images: jax.Array, batch_size: int) -> list[jax.Array]:
    return [images[start : start + batch_size] for start in range(0, len(images), batch_size)]


def _last(results: Callable[[], Any]) -> Any:
    """The last of an iterator's results: a device works through its queue in order, so all are done when it is."""
    last = None
    for last in results():  # noqa: B007
        pass
    return last


def _gaze_batch(images: np.ndarray) -> Batch:
    """The images with random fixations, as `read_batches` gives them."""
    count, height, width, _ = images.shape
    rng = np.random.default_rng(0)
    return Batch(
        images=images,
        mask=np.ones(count, bool),
        ids=np.array([str(index) for index in range(count)]),
        fixations=rng.uniform(0, (height, width), (count, FIXATIONS, 2)).astype(np.float32),
        fixation_mask=np.ones((count, FIXATIONS), bool),
        observers=np.zeros((count, FIXATIONS), np.int32),
        durations=np.full((count, FIXATIONS), np.nan, np.float32),
        labels=np.zeros((count, 0), bool),
        clutter=np.full(count, -1, np.int32),
        content_box=np.tile(np.array([0, 0, height, width], np.int32), (count, 1)),
        photo_box=np.tile(np.array([0, 0, height, width], np.int32), (count, 1)),
        size=np.tile(np.array([height, width], np.int32), (count, 1)),
        scale=np.ones((count, 2), np.float32),
    )
