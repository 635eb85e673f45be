"""Training a fusion network: the loss of a step, and the evaluation. Pure functions; no files."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from mlfem_jax.data import batches_per_epoch
from mlfem_jax.fusion import FusionNet, mean_pool, predict
from mlfem_jax.gaze import gaze_densities
from mlfem_jax.metrics import pcc, similarity
from mlfem_jax.training import step as steps_of
from mlfem_jax.training.step import Batch, TrainState, adamw
from mlfem_jax.upsampling import upsample

Inputs: TypeAlias = Callable[[Batch], Any]
Faithful: TypeAlias = Callable[[Array, Array, Array], Array]
"""From an image, a map of its size and a key to how faithful the map is, at most 1."""
Shape: TypeAlias = tuple[int, ...] | None
"""(height, width) of the frame of the fixations; None is that of the batch, which its field "frame" has."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a fusion network is trained.

    Attributes:
        epochs: passes over the training images. Default: the architecture's own.
        batch_size: images in a step, of all devices together.
        learning_rate: peak of the schedule: up over the first tenth of the steps, then down to 0 along a cosine.
        weight_decay: of AdamW.
        averaging: the network kept is a moving average of the trained one; this is its decay in each step.
        faithful: share of the loss that asks for faithfulness to the network in the place of gaze, from 0 to 1: 1 less
            `soft_abpc` of the map, through the frozen network. It costs three forwards and two backward passes an
            image. With it the newest checkpoint is kept, whatever the validation says of gaze.
        flips: mirror half of the photographs left to right.
        seed: of the first parameters, the flips, the dropout and the order of the images.
    """

    epochs: int | None = None
    batch_size: int = 16
    learning_rate: float = 4e-3
    weight_decay: float = 5e-2
    averaging: float = 0.99
    faithful: float = 0.0
    flips: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the field.
        """
        counts = (self.batch_size, 1 if self.epochs is None else self.epochs)
        if min(counts) < 1 or not self.learning_rate > 0 or self.weight_decay < 0:
            raise ValueError(
                "epochs, batch_size, learning_rate and weight_decay: expected numbers above 0, the last at least 0, "
                f"got {self}"
            )
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging: expected a decay in [0, 1), got {self.averaging}")
        if not 0 <= self.faithful <= 1:
            raise ValueError(f"faithful: expected a share from 0 to 1, got {self.faithful}")

    def passes(self, net: FusionNet) -> int:
        """The number of epochs of a network's training."""
        return net.epochs if self.epochs is None else self.epochs


def optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """The recipe's AdamW on gradients clipped to a norm of 1, warmed up over a tenth of the steps."""
    decay, warmup = recipe.weight_decay, max(1, steps // 10)
    return adamw(steps, learning_rate=recipe.learning_rate, warmup_steps=warmup, weight_decay=decay, clip=1.0)


def initial_state(net: FusionNet, recipe: Recipe, steps: int) -> TrainState:
    """The state before the first step, parameters drawn from the seed; beside them is their moving average."""
    first, later = jax.random.split(jax.random.key(recipe.seed))
    params = net.init(first)
    return steps_of.initial_state(params, params, optimizer(recipe, steps), later)


def cached_inputs(batch: Batch) -> Any:
    """What the reader took from a file: of each example a stack, or the strong positions of its layers."""
    return batch["maps"]


def make_step(
    net: FusionNet,
    recipe: Recipe,
    steps: int,
    shape: Shape = None,
    inputs: Inputs = cached_inputs,
    faithful: Faithful | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Array]]:
    """The jitted training step, see `mlfem_jax.training.step.make_step`.

    Args:
        net: the shape of the network.
        recipe: of the training.
        steps: in all, for the schedule.
        shape: see `Shape`.
        inputs: from a batch to what `FusionNet.stack` takes of each example.
        faithful: what `recipe.faithful` asks for, of a batch that has `images` too. Default: nothing.

    Returns:
        The function. Blank examples (mask False) count for nothing.
    """

    def mean_loss(params: Any, average: Any, batch: Batch, key: Array) -> tuple[Array, Any]:
        for_flips, for_dropout = jax.random.split(key)
        frame = frame_of(batch, shape)
        # Dropped for the whole batch: one product of weights and positions serves all its images.
        kept = net.thinned(params, jax.random.fold_in(key, 2))
        maps, truth = stacks(net, kept, inputs(batch), frame), gfdms(batch, frame)
        flipped = jax.random.bernoulli(for_flips, jnp.float32(0.5 if recipe.flips else 0.0), (len(maps),))
        maps, truth = mirrored(maps, flipped, axis=-1), mirrored(truth, flipped, axis=-1)

        def loss(prediction: Array, gfdm: Array) -> Array:
            return net.loss(prediction, _pooled(gfdm, net.stride))

        keys = jax.random.split(for_dropout, len(maps))
        predictions = jax.vmap(lambda maps, key: net.apply(kept, maps, key=key))(maps, keys)
        losses = jax.vmap(loss)(predictions, truth)
        if faithful is not None:
            images = mirrored(jnp.asarray(batch["images"]), flipped, axis=2)
            placed = jax.vmap(lambda prediction: upsample(prediction, frame))(predictions)
            gains = jax.vmap(faithful)(images, placed, jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys))
            losses = (1 - recipe.faithful) * losses + recipe.faithful * (1 - gains)
        real = jnp.maximum(batch["mask"].sum(), 1).astype(jnp.float32)
        return jnp.sum(jnp.where(batch["mask"], losses, 0.0)) / real, average

    def follow(state: TrainState) -> TrainState:
        # Early on the average follows quickly, so that it does not remember the first random parameters.
        done = state.step.astype(jnp.float32)
        decay = jnp.minimum(recipe.averaging, (1.0 + done) / (10.0 + done))
        average: Any = optax.incremental_update(state.params, state.beside, 1 - decay)
        return dataclasses.replace(state, beside=average)

    return steps_of.make_step(mean_loss, optimizer(recipe, steps), after=follow)


def make_scores(
    net: FusionNet, shape: Shape = None, inputs: Inputs = cached_inputs, on_each: NamedSharding | None = None
) -> Callable[[Any, Batch], dict[str, Array]]:
    """The jitted evaluation: (params, batch) to the PCC, SIM and mask (N,) of all processes' examples.

    Both compare the fused map at full size, as `explain` gives it, with the GFDM at full size.

    Args:
        net: the shape of the network.
        shape: see `Shape`.
        inputs: from a batch to what `FusionNet.stack` takes of each example.
        on_each: sharding of the result where the batch is split: every device, and so every process, gets all.
    """

    @functools.partial(jax.jit, out_shardings=on_each)
    def scores(params: Any, batch: Batch) -> dict[str, Array]:
        frame = frame_of(batch, shape)
        fused = jax.vmap(lambda maps: predict(net, params, maps, frame))(stacks(net, params, inputs(batch), frame))
        found = jax.vmap(score_maps)(fused, gfdms(batch, frame))
        return {**found, "mask": batch["mask"]}

    return scores


def fit(net: FusionNet, recipe: Recipe, batches: Iterable[Batch], *, examples: int, shape: Shape = None) -> TrainState:
    """The state after training on all batches, without files: for cross-validation.

    Args:
        net: the shape of the network.
        recipe: of the training.
        batches: of `recipe.passes(net)` epochs, with cached maps.
        examples: number of examples in an epoch.
        shape: see `Shape`.
    """
    steps = batches_per_epoch(examples, recipe.batch_size) * recipe.passes(net)
    state, step = initial_state(net, recipe, steps), make_step(net, recipe, steps, shape)
    for batch in batches:
        state, _ = step(state, batch)
    return jax.block_until_ready(state)


def _pooled(gfdm: Float[Array, "*S"], stride: int) -> Float[Array, "*s"]:
    """The density at the resolution of the prediction; of recordings, whose maps are not shrunk, as it is."""
    return mean_pool(gfdm[None, ..., None], stride)[0, ..., 0] if gfdm.ndim == 2 else gfdm


def frame_of(batch: Batch, shape: Shape = None) -> tuple[int, ...]:
    """(height, width) of the frame of a batch; of recordings their spatial axes."""
    return batch["frame"].shape[1:-1] if shape is None else shape


def stacks(net: FusionNet, params: Any, given: Any, frame: tuple[int, ...]) -> Float[Array, "N C ..."]:
    """The stacks that the network reads of a batch, in a frame of (height, width)."""
    size = tuple(-(-side // net.shrink) for side in frame)
    return jax.vmap(lambda one: net.stack(params, one, size))(given)


def gfdms(batch: Batch, shape: tuple[int, ...]) -> Float[Array, " N *S"]:
    """The GFDM of each example of a batch."""
    return gaze_densities(batch["fixations"], shape, sigma_px=batch["sigma_px"], mask=batch["fixation_mask"])


def mirrored(arrays: Array, flipped: Array, *, axis: int) -> Array:
    """The examples of a batch, those that are flipped from right to left along an axis."""
    return jnp.where(flipped.reshape(-1, *[1] * (arrays.ndim - 1)), jnp.flip(arrays, axis), arrays)


def score_maps(importance: Float[Array, "*S"], gfdm: Float[Array, "*S"]) -> dict[str, Array]:
    """PCC and SIM of one map."""
    return {"pcc": pcc(importance, gfdm), "sim": similarity(importance, gfdm)}
