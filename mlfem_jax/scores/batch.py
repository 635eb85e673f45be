"""One batch of photographs and gaze to one row of scores for each (image, method), in one compiled function."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int8, Int32, Num, Shaped, UInt8

from mlfem_jax.attribution import Method, class_targets
from mlfem_jax.backbones import Backbone, Forward, forward_pass
from mlfem_jax.data import Batch, ExampleFormat, RecordingFormat, blank_example
from mlfem_jax.engine import BatchSize, Program, images_in_batch, run_batches
from mlfem_jax.metrics import content, limits
from mlfem_jax.parallel import chosen_devices, replicate
from mlfem_jax.scores.columns import METRICS, Column, Metric
from mlfem_jax.scores.compared import gaze_scores, looked_density, shown_people
from mlfem_jax.scores.ground import Looks, looks_in_input, looks_in_photo
from mlfem_jax.scores.plan import Plan, Task
from mlfem_jax.scores.small import over_all_axes, small_maps
from mlfem_jax.scores.stored import StoredMaps

Arrays: TypeAlias = Array | np.ndarray


@chex.dataclass(frozen=True, mappable_dataclass=False)
class BatchScores:
    """The rows of a batch.

    Attributes:
        prediction: class of the highest logit.
        probability: of that class: softmax, or sigmoid for a multi-label task.
        correct: 1, 0, or -1 where an image has no label, or the labels are of other classes than the network's.
        scores: image by row by metric; NaN where undefined.
        constant: whether a map has no two different values, or has one that is not finite.
        maps: of each row, 255 for its maximum, see `small_maps`; 0 x 0 where none are kept.
        gaze: the density, likewise.
    """

    prediction: Int32[Arrays, " N"]
    probability: Float32[Arrays, " N"]
    correct: Int8[Arrays, " N"]
    scores: Float32[Arrays, "N rows metrics"]
    constant: Bool[Arrays, "N rows"]
    maps: UInt8[Arrays, "N rows h w"]
    gaze: UInt8[Arrays, "N h w"]


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Inputs:
    """What is scored of a batch, as `Batch` has it, and where people looked, in one frame or two.

    Attributes:
        images: photographs, or recordings.
        looks: fields of `Looks` in the frame of the network's input.
        photo: likewise in the photograph's own, where that is asked for.
        labels: multi-hot.
        density: the released density map in the frame of the input, or None.
        stored: the maps that are read from files, or None.
    """

    images: Num[Array, "N ..."]
    looks: Mapping[str, Any]
    photo: Mapping[str, Any] | None
    labels: Shaped[Array, "N classes"]
    density: Float[Array, "N H W"] | None
    stored: Float[Array, "N stored H W"] | None


def score_batches(
    backbone: Backbone, batches: Iterable[Batch], plan: Plan, totals: Int[np.ndarray, "*S"]
) -> Iterator[tuple[Batch, BatchScores]]:
    """The scores of batch after batch, as NumPy arrays; one is computed while the last is used.

    A batch is split over all devices of this process, which changes no score.

    Args:
        backbone: the network.
        batches: from `read_batches`; it is compiled once for each shape.
        plan: what is scored.
        totals: how many fixations each pixel has on all images of the data set together.

    Returns:
        An iterator of (batch, scores), padding included.

    Raises:
        MemoryError: the memory of a device does not suffice for a batch; it says what that needs, and what would fit.
    """
    program = _program(backbone, plan, totals)
    for batch, scores in run_batches(program, ((batch, _fields(batch, plan)) for batch in batches)):
        yield batch, jax.device_get(scores)


def score_batch_size(
    backbone: Backbone,
    example_format: ExampleFormat | RecordingFormat,
    plan: Plan,
    totals: Int[np.ndarray, "*S"],
    *,
    batch_size: BatchSize,
    most: int,
) -> int:
    """The number of images in a batch: what was asked for, or for "auto" what fits the devices' memory.

    Args:
        backbone: the network.
        example_format: of the examples that will be read.
        plan: what is scored.
        totals: see `score_batches`.
        batch_size: what was asked for; rounded up to a multiple of the devices.
        most: how many images there are.

    Raises:
        ValueError: a batch size below 1.
    """
    blank = Batch(**{name: value[None] for name, value in blank_example(example_format).items()})
    return images_in_batch(_program(backbone, plan, totals), _fields(blank, plan), batch_size, most=most)


def _program(backbone: Backbone, plan: Plan, totals: Int[np.ndarray, "*S"]) -> Program:
    devices = chosen_devices(None)
    return Program(score_part, replicate((backbone.astype(plan.dtype), totals), devices), plan, devices)


def _fields(batch: Batch, plan: Plan) -> dict[str, Any]:
    """The fields of `Inputs`, on the host."""
    return {
        "images": batch.images,
        "looks": looks_in_input(batch, plan),
        "photo": looks_in_photo(batch, plan) if plan.compare_in == "photo" else None,
        "labels": batch.labels,
        "density": batch.density,
        "stored": _stored(batch, plan),
    }


def _stored(batch: Batch, plan: Plan) -> Float32[np.ndarray, "N stored H W"] | None:
    """The maps that are read from files, method after method."""
    folders = [method for _, method in plan.methods if isinstance(method, StoredMaps)]
    frame = batch.images.shape[1:3]
    return np.stack([folder.read(batch.ids, batch.size, frame) for folder in folders], axis=1) if folders else None


def score_part(whole: tuple[Backbone, Int[Array, "*S"]], fields: Mapping[str, Any], plan: Plan) -> BatchScores:
    """Every method and metric of some images from one forward pass.

    Where an image has no fixation, the released density stands in for the GFDM, if there is one.

    Args:
        whole: (the network, `totals` of `score_batches`).
        fields: of `Inputs`.
        plan: what is scored.
    """
    (backbone, totals), inputs = whole, Inputs(**fields)
    targets = class_targets(backbone, [plan.target] if isinstance(plan.target, tuple) else plan.target, None)
    targets = jnp.repeat(targets, len(inputs.images), axis=0) if isinstance(targets, np.ndarray) else targets
    forward = forward_pass(backbone, inputs.images, targets, dtype=plan.dtype)
    looks, there = Looks(**inputs.looks), Looks(**(inputs.photo or inputs.looks))
    shape = forward.size[: looks.fixations.shape[2]]  # along which events are known
    made_by = [None if isinstance(method, StoredMaps) else method for _, method in plan.methods]
    stored = iter(() if inputs.stored is None else jnp.moveaxis(inputs.stored, 1, 0))
    maps = [next(stored) if method is None else method(forward) for method in made_by]
    density = looked_density(looks, shape, inputs.density)
    if plan.people:  # what is shown of them, and judged by the network
        people = shown_people(plan, looks, there, totals, density)
        maps += [over_all_axes(importance, forward.size) for importance in people]
    maps = jnp.stack(maps, axis=1)
    against_gaze = gaze_scores(plan, maps, there, totals, inputs.density)
    scored = _Scored(maps, inputs.images, forward, [*made_by, *[None] * len(plan.people)])
    inside = over_all_axes(jax.vmap(functools.partial(content, shape))(looks.content_box), forward.size)
    defined = jax.vmap(jax.vmap(lambda importance, inside: limits(importance, inside)[2], (0, None)))(maps, inside)
    kept = functools.partial(small_maps, events=looks.fixations, spatial=forward.size, size=plan.map_size)
    softmax_or_sigmoid = jax.nn.softmax if plan.task == "single" else jax.nn.sigmoid
    return BatchScores(
        prediction=forward.logits.argmax(axis=1).astype(jnp.int32),
        probability=softmax_or_sigmoid(forward.logits.astype(jnp.float32)).max(axis=1),
        correct=_correct(forward.logits, inputs.labels, plan.task),
        scores=_scores(plan, scored, against_gaze),
        constant=~defined,
        maps=kept(maps),
        gaze=kept(over_all_axes(density, forward.size)),
    )


@dataclasses.dataclass(frozen=True)
class _Scored:
    """Maps, and all that the network says of them.

    Attributes:
        maps: (N, rows, H, W), or of recordings (N, rows, *S).
        images: (N, H, W, 3), or (N, *S, C), as they were read.
        forward: of the images.
        methods: that made the rows; None stands for people, and for maps from files.
    """

    maps: Float[Array, "N rows ..."]
    images: Array
    forward: Forward
    methods: Sequence[Method | None]


def _scores(plan: Plan, scored: _Scored, against_gaze: Mapping[Column, Array]) -> Float[Array, "N rows metrics"]:
    """Every column: those against gaze as they are given, the others computed."""
    found: dict[Callable, Any] = {}  # two columns may be parts of one result
    columns = []
    for column in plan.columns:
        metric = METRICS[column.metric]
        if metric.against == "gaze":
            columns.append(against_gaze[column])
            continue
        if metric.function not in found:
            found[metric.function] = _against(metric, scored, plan.task)
        value = found[metric.function]
        columns.append(value if metric.part is None else value[metric.part])
    return jnp.stack(columns, axis=2)


def _against(metric: Metric, scored: _Scored, task: Task) -> Any:
    """The metric's result, or results, (N, rows)."""
    if metric.against == "model":
        output = "softmax" if task == "single" else "sigmoid"
        return _against_model(metric.function, scored.maps, scored.images, scored.forward, output)
    if metric.against == "map":
        return jax.vmap(jax.vmap(metric.function))(scored.maps)
    rows = [
        _against_method(metric.function, method, scored.images, scored.forward.backbone) for method in scored.methods
    ]
    return jnp.stack(rows, axis=1)


def _against_model(function: Callable, maps: Array, images: Array, forward: Forward, output: str) -> Any:
    """One map after the other: each is a batch of perturbed copies already."""
    if forward.backbone.embeds:
        raise ValueError(
            f"metrics: expected a network that tells classes, by which to judge, got {forward.backbone.name}"
        )

    def score(place):
        image, row = place
        target = jax.tree.map(lambda classes: classes[image], forward.classes)  # a function has no leaves
        return function(forward.backbone, images[image], maps[image, row], target=target, output=output)

    places = jnp.stack(jnp.indices(maps.shape[:2]), axis=-1).reshape(-1, 2)
    return jax.tree.map(lambda leaf: leaf.reshape(maps.shape[:2]), jax.lax.map(score, places))


def _against_method(function: Callable, method: Method | None, images: Array, backbone: Backbone) -> Array:
    """The score of a method for each image; people and files cannot be asked for other maps: NaN."""
    if method is None:
        return jnp.full(len(images), jnp.nan)
    key = jax.random.key(0)
    return jax.lax.map(lambda image: function(backbone, key, image, method=method), images)


def _correct(logits: Array, labels: Array, task: Task) -> Array:
    """1, 0, or -1 for unknown, of each image; see `Plan.task`."""
    if logits.shape != labels.shape:
        return jnp.full(len(logits), -1, jnp.int8)
    if task == "single":
        correct = jnp.take_along_axis(labels, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    else:
        correct = jnp.where(labels, logits > 0, True).all(axis=1)  # sigmoid(0) = 0.5
    return jnp.where(labels.any(axis=1), correct.astype(jnp.int8), jnp.int8(-1))
