"""One batch of photographs and gaze to one row of scores for each (image, method), in one compiled function."""

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int8, Int32, Shaped, UInt8

from mlfem_jax.attribution import Method
from mlfem_jax.backbones import Backbone, Forward
from mlfem_jax.data import Batch
from mlfem_jax.gaze import count_density, gaze_density
from mlfem_jax.metrics import content, fixation_counts, limits
from mlfem_jax.parallel import Devices, chosen_devices, over_shares, replicate, split
from mlfem_jax.scores.columns import METRICS, Gaze
from mlfem_jax.scores.plan import Plan, Task

Arrays: TypeAlias = Array | np.ndarray


class BatchScores(NamedTuple):
    """The rows of a batch.

    Attributes:
        prediction: class of the highest logit.
        probability: of that class: softmax, or sigmoid for a multi-label task.
        correct: 1, 0, or -1 where an image has no label, or the labels are of other classes than the network's.
        scores: image by row by metric; NaN where undefined.
        constant: whether a map has no two different values, or has one that is not finite.
        maps: of each row, 255 for its maximum; 0 x 0 where none are kept.
        gaze: the density, likewise.
    """

    prediction: Int32[Arrays, " N"]
    probability: Float32[Arrays, " N"]
    correct: Int8[Arrays, " N"]
    scores: Float32[Arrays, "N rows metrics"]
    constant: Bool[Arrays, "N rows"]
    maps: UInt8[Arrays, "N rows s s"]
    gaze: UInt8[Arrays, "N s s"]


class Inputs(NamedTuple):
    """What is scored of a batch: fields of `Batch`, but for `sigma_px`, of the GFDM along (y, x) in the frame."""

    images: UInt8[Array, "N H W 3"]
    fixations: Float[Array, "N n 2"]
    mask: Bool[Array, "N n"]
    observers: Int[Array, "N n"]
    sigma_px: Float[Array, "N 2"]
    content_box: Int[Array, "N 4"]
    labels: Shaped[Array, "N classes"]
    density: Float[Array, "N H W"] | None


def score_batches(
    backbone: Backbone, batches: Iterable[Batch], plan: Plan, totals: Int[np.ndarray, "H W"]
) -> Iterator[tuple[Batch, BatchScores]]:
    """The scores of batch after batch, as NumPy arrays; one is computed while the last is used.

    A batch is split over all devices of this process where its size allows, which changes no score.

    Args:
        backbone: the network; batches must have its `input_size`.
        batches: from `read_batches`, all of one shape: it is compiled once.
        plan: what is scored.
        totals: how many fixations each pixel has on all images of the data set together.

    Returns:
        An iterator of (batch, scores), padding included.
    """
    devices = chosen_devices(None)
    whole = replicate((backbone.astype(plan.dtype), totals), devices)
    running: deque[tuple[Batch, BatchScores]] = deque()
    for batch in batches:
        if len(batch.images) % len(devices):
            devices = devices[:1]
            whole = replicate(whole, devices)
        running.append((batch, score_batch(*whole, _inputs(batch, plan, devices), plan=plan, devices=devices)))
        if len(running) == 2:
            batch, scores = running.popleft()
            yield batch, jax.device_get(scores)
    for batch, scores in running:
        yield batch, jax.device_get(scores)


def _inputs(batch: Batch, plan: Plan, devices: Devices) -> Inputs:
    gaze = (batch.fixations, batch.fixation_mask, batch.observers, plan.sigma_px * batch.scale, batch.content_box)
    return Inputs(*jax.device_put((batch.images, *gaze, batch.labels, batch.density), split(devices)))


@functools.partial(jax.jit, static_argnames=("plan", "devices"))
def score_batch(
    backbone: Backbone, totals: Int[Array, "H W"], inputs: Inputs, *, plan: Plan, devices: Devices
) -> BatchScores:
    """Every method and metric of a batch from one forward pass.

    Where an image has no fixation, the released density stands in for the GFDM, if there is one.

    Args:
        backbone: the network, on all devices.
        totals: see `score_batches`; on all devices.
        inputs: of the batch, split over the devices.
        plan: what is scored.
        devices: one or several.
    """

    def scores(whole, part):
        backbone, totals = whole
        return _score_part(backbone, totals, part, plan)

    return over_shares(scores, devices)((backbone, totals), inputs)


def _score_part(backbone: Backbone, totals: Array, inputs: Inputs, plan: Plan) -> BatchScores:
    images = backbone.preprocess(inputs.images).astype(plan.dtype)
    logits, activations = backbone.apply(backbone.params, images)
    forward = Forward(backbone, images, logits, activations)
    gaze = jax.vmap(_gaze, in_axes=(0, 0, None))(inputs, inputs.mask, totals)
    if inputs.density is not None:
        looked = inputs.mask.any(axis=1)[:, None, None]
        gaze = gaze._replace(density=jnp.where(looked, gaze.density, inputs.density))
    maps = jnp.stack([method(forward) for _, method in plan.methods], axis=1)
    scores = _scores(maps, gaze, inputs.images, forward, plan, [method for _, method in plan.methods])
    if plan.humans:
        human = _human_scores(inputs, gaze, totals, forward, plan)
        maps, scores = (jnp.concatenate(pair, axis=1) for pair in zip((maps, scores), human, strict=True))
    inside = jax.vmap(functools.partial(content, images.shape[1:3]))(inputs.content_box)
    defined = jax.vmap(jax.vmap(lambda map, inside: limits(map, inside)[2], (0, None)))(maps, inside)
    softmax_or_sigmoid = jax.nn.softmax if plan.task == "single" else jax.nn.sigmoid
    return BatchScores(
        logits.argmax(axis=1).astype(jnp.int32),
        softmax_or_sigmoid(logits.astype(jnp.float32)).max(axis=1),
        _correct(logits, inputs.labels, plan.task),
        scores,
        ~defined,
        _small(maps, plan.map_size),
        _small(gaze.density, plan.map_size),
    )


def _gaze(inputs: Inputs, mask: Bool[Array, " n"], totals: Int[Array, "H W"]) -> Gaze:
    """The gaze on one image, by the fixations of `mask`."""
    fixations, shape = inputs.fixations, (inputs.images.shape[0], inputs.images.shape[1])
    density = gaze_density(fixations, shape, sigma_px=inputs.sigma_px, mask=mask)
    others = totals - fixation_counts(fixations, shape, mask=mask)
    prior = count_density(others, sigma_px=inputs.sigma_px)
    return Gaze(density, fixations, mask, inputs.content_box, others, prior)


def _human_scores(inputs: Inputs, gaze: Gaze, totals: Array, forward: Forward, plan: Plan) -> tuple[Array, Array]:
    """(maps (N, 1, H, W), scores (N, 1, metrics)) of the even observers against the odd ones."""
    known = inputs.mask & (inputs.observers >= 0)
    even, odd = (
        jax.vmap(_gaze, in_axes=(0, 0, None))(inputs, known & (inputs.observers % 2 == half), totals) for half in (0, 1)
    )
    # The other images' fixations are those of all observers.
    truth = odd._replace(others=gaze.others, prior=gaze.prior)
    maps = even.density[:, None]
    return maps, _scores(maps, truth, inputs.images, forward, plan, [None])


def _scores(
    maps: Float[Array, "N rows H W"],
    gaze: Gaze,
    images: Array,
    forward: Forward,
    plan: Plan,
    methods: Sequence[Method | None],
) -> Float[Array, "N rows metrics"]:
    """Every metric of every map; `methods` made them, None stands for people."""
    chosen = [METRICS[name] for name in plan.metrics]
    kinds = {"gaze": _against_gaze, "model": _against_model, "method": _against_method}
    functions = {metric.function: metric.against for metric in chosen}  # two columns may be parts of one result
    found = {
        function: kinds[against](function, maps, gaze, images, forward, plan, methods)
        for function, against in functions.items()
    }
    columns = [
        found[metric.function] if metric.part is None else found[metric.function][metric.part] for metric in chosen
    ]
    return jnp.stack(columns, axis=2)


def _against_gaze(function, maps, gaze, images, forward, plan, methods):
    del images, forward, plan, methods
    return jax.vmap(jax.vmap(function, (0, None)))(maps, gaze)


def _against_model(function, maps, gaze, images, forward, plan, methods):
    """One map after the other: each is a batch of perturbed copies already."""
    del gaze, methods
    if forward.backbone.embeds:
        raise ValueError(f"metrics: {forward.backbone.name!r} tells no classes, by which a map could be judged")
    output = "softmax" if plan.task == "single" else "sigmoid"

    def score(place):
        image, row = place
        target = forward.classes[image, 0]
        return function(forward.backbone, images[image], maps[image, row], target=target, output=output)

    places = jnp.stack(jnp.indices(maps.shape[:2]), axis=-1).reshape(-1, 2)
    return jax.tree.map(lambda leaf: leaf.reshape(maps.shape[:2]), jax.lax.map(score, places))


def _against_method(function, maps, gaze, images, forward, plan, methods):
    del gaze, plan
    key, unknown = jax.random.key(0), jnp.full(len(maps), jnp.nan)

    def scores(method):
        return jax.lax.map(lambda image: function(forward.backbone, key, image, method=method), images)

    return jnp.stack([unknown if method is None else scores(method) for method in methods], axis=1)


def _correct(logits: Array, labels: Array, task: Task) -> Array:
    """1, 0, or -1 for unknown, of each image; see `Plan.task`."""
    if logits.shape != labels.shape:
        return jnp.full(len(logits), -1, jnp.int8)
    if task == "single":
        correct = jnp.take_along_axis(labels, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    else:
        correct = jnp.where(labels, logits > 0, True).all(axis=1)  # sigmoid(0) = 0.5
    return jnp.where(labels.any(axis=1), correct.astype(jnp.int8), jnp.int8(-1))


def _small(maps: Float[Array, "*N H W"], size: int) -> UInt8[Array, "*N s s"]:
    """Maps as uint8, `size` pixels a side, 255 for the maximum of each."""
    if size == 0:
        return jnp.zeros((*maps.shape[:-2], 0, 0), jnp.uint8)
    small = jax.image.resize(maps.astype(jnp.float32), (*maps.shape[:-2], size, size), "linear")
    peak = small.max(axis=(-2, -1), keepdims=True, initial=0)
    return jnp.nan_to_num(small / jnp.where(peak > 0, peak, 1) * 255).round().clip(0, 255).astype(jnp.uint8)
