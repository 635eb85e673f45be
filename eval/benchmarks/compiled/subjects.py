"""What is compiled: the library's own functions, traced for devices that are not there."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from jax.stages import Traced

from eval.benchmarks.compiled.stand_ins import fusion_shape, with_fusion
from mlfem_jax.attribution import Method, layer_stacks, method
from mlfem_jax.backbones import Backbone, Forward, initial_weights, make_classifier
from mlfem_jax.engine import Program, forward_program, run_batch
from mlfem_jax.parallel import Devices, batch_sharding, split, state_sharding
from mlfem_jax.scores import Plan, metric_names, parse_method, score_part
from mlfem_jax.training import classifier as classifiers, fusion as fusions

FIXATIONS = 80
STEPS = 100  # of the training whose step is compiled: they decide the learning rate alone


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all subjects share.

    Attributes:
        backbone: float32, with the input size that is compiled for.
        batch_size: images in a batch, of all devices together.
        dtype: of the forward pass.
        devices: those compiled for.
        shards: of these, that each large array of a classifier's training state is split over.
    """

    backbone: Backbone
    batch_size: int
    dtype: str
    devices: Devices
    shards: int = 1


def traced(subject: str, setting: Setting) -> Traced:
    """What JAX lowers and hands to the compiler.

    Args:
        subject: "bare", the forward pass alone; "stack", all layers' maps; "scores", `add`, PCC and SIM against the
            GFDM, or other metrics as in "scores:gaze" or "scores:emd,nss"; "train_fusion:ARCHITECTURE" or
            "train_classifier:CLASSES", a training step; or a method, with options as in "net:architecture=net".
        setting: what else is compiled.

    Raises:
        ValueError: another subject; or as the subject.
    """
    name, _, option = subject.partition(":")
    if name == "train_fusion":
        return _fusion_step(option or "net", setting)
    if name == "train_classifier":
        return _classifier_step(int(option or 20), setting)
    if name == "scores":
        return _traced_program(*_scores(option or "pcc,similarity", setting), setting.devices)
    with tempfile.TemporaryDirectory() as folder:
        return _traced_program(*_maps(subject, setting, Path(folder)), setting.devices)


def activation_shapes(setting: Setting) -> dict[str, tuple[int, ...]]:
    """Layer name to the shape of its activation on ONE device."""
    backbone, share = setting.backbone, setting.batch_size // len(setting.devices)
    inputs = jax.ShapeDtypeStruct((share, *backbone.photo_size, 3), jnp.float32)
    found = jax.eval_shape(backbone.apply, backbone.params, inputs)[1]
    return {name: activation.shape for name, activation in found.items()}


def _logits(forward: Forward) -> Any:
    return forward.logits


def _maps(subject: str, setting: Setting, folder: Path) -> tuple[Program, Any]:
    functions: dict[str, Any] = {"bare": _logits, "stack": layer_stacks}
    function = functions.get(subject) or with_fusion(_method(subject), setting.backbone, folder)
    here = tuple(jax.devices("cpu")[:1])
    platform = setting.devices[0].platform
    program = forward_program(setting.backbone, function, dtype=setting.dtype, devices=here, platform=platform)
    images = jax.ShapeDtypeStruct((setting.batch_size, *setting.backbone.photo_size, 3), jnp.uint8)
    return program, (images, None)


def _method(subject: str) -> Method:
    found = parse_method(subject)
    if not isinstance(found, Method):
        raise ValueError(f"what: expected a method that is computed, got the files of {subject!r}")
    return found


def _scores(metrics: str, setting: Setting) -> tuple[Program, Any]:
    names = metric_names(tuple(metrics.split(",")))
    plan = Plan((("add", method("add")),), names, sigma_px=24.0, dtype=setting.dtype)
    frame = setting.backbone.photo_size
    whole = setting.backbone.astype(setting.dtype), jax.ShapeDtypeStruct(frame, jnp.int32)

    def batch_of(*shape: int, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((setting.batch_size, *shape), dtype)

    looks = {
        "fixations": batch_of(FIXATIONS, 2, dtype=jnp.float32),
        "mask": batch_of(FIXATIONS, dtype=jnp.bool_),
        "observers": batch_of(FIXATIONS, dtype=jnp.int32),
        "sigma_px": batch_of(2, dtype=jnp.float32),
        "content_box": batch_of(4, dtype=jnp.int32),
        "size": batch_of(2, dtype=jnp.int32),
        "place": batch_of(4, dtype=jnp.float32),
    }
    fields = {
        "images": batch_of(*frame, 3, dtype=jnp.uint8),
        "looks": looks,
        "photo": None,
        "labels": batch_of(0, dtype=jnp.bool_),
        "density": None,
        "stored": None,
    }
    return Program(score_part, whole, plan, setting.devices), fields


def _traced_program(program: Program, batch: Any, devices: Devices) -> Traced:
    shares = split(devices)
    everywhere = shares if isinstance(shares, SingleDeviceSharding) else NamedSharding(shares.mesh, PartitionSpec())
    return run_batch.trace(
        _shapes(program.whole, everywhere), _shapes(batch, shares), function=program.function,
        settings=program.settings, devices=devices,
    )  # fmt: skip


def _shapes(tree: Any, sharding: Sharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def _fusion_step(architecture: str, setting: Setting) -> Traced:
    """Of a fusion network on cached maps."""
    backbone, size = setting.backbone, setting.batch_size
    net, maps = fusion_shape(architecture, backbone)
    images = jax.ShapeDtypeStruct((size, *backbone.photo_size, 3), jnp.uint8)
    recipe = fusions.Recipe(batch_size=size)
    step = fusions.make_step(net, recipe, STEPS, backbone.photo_size)
    state = jax.eval_shape(lambda: fusions.initial_state(net, recipe, STEPS))
    batch = {
        "maps": jax.eval_shape(maps.read, backbone, images),
        "fixations": jax.ShapeDtypeStruct((size, FIXATIONS, 2), jnp.float32),
        "fixation_mask": jax.ShapeDtypeStruct((size, FIXATIONS), jnp.bool_),
        "sigma_px": jax.ShapeDtypeStruct((size, 2), jnp.float32),
        "mask": jax.ShapeDtypeStruct((size,), jnp.bool_),
    }
    return _traced_step(step, state, batch, setting)


def _classifier_step(classes: int, setting: Setting) -> Traced:
    """Of the backbone's architecture."""
    size = setting.batch_size
    classifier = make_classifier(setting.backbone.name, classes)
    recipe = classifiers.Recipe(batch_size=size, dtype=setting.dtype)  # pyrefly: ignore[bad-argument-type]
    _, on_each = batch_sharding(size, setting.devices, shards=setting.shards)
    step = classifiers.make_step(classifier, recipe, STEPS, "softmax", on_each)
    state = jax.eval_shape(
        lambda: classifiers.initial_state(classifier, recipe, STEPS, *initial_weights(classifier, weights="random"))
    )
    frame = classifiers.frame(classifier, recipe)
    batch = {
        "images": jax.ShapeDtypeStruct((size, *frame, 3), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((size, classes), jnp.bool_),
        "mask": jax.ShapeDtypeStruct((size,), jnp.bool_),
        "numbers": jax.ShapeDtypeStruct((size,), jnp.uint32),
    }
    return _traced_step(step, state, batch, setting)


def _traced_step(step: Any, state: Any, batch: Any, setting: Setting) -> Traced:
    over_batch, on_each = batch_sharding(setting.batch_size, setting.devices, shards=setting.shards)
    state = jax.tree.map(_shapes, state, state_sharding(state, on_each))
    return step.trace(state, _shapes(batch, over_batch))
