"""Training a fusion network: the step, the evaluation, and the state that both carry. Pure functions; no files.

The loop that keeps checkpoints is in `training.py`, the script in `train/fusion.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from mlfem_jax.data import batches_per_epoch
from mlfem_jax.fusion import FusionNet, mean_pool, network as fusion_net
from mlfem_jax.gaze import gaze_densities
from mlfem_jax.metrics import pcc

Batch = Mapping[str, Any]
Inputs = Callable[[Batch], Float[Array, "N C h w"]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a fusion network is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images in a step, of all devices together.
        learning_rate: peak of the schedule: up over the first tenth of the steps, then down to 0 along a cosine.
        weight_decay: of AdamW.
        averaging: the network kept is a moving average of the trained one; this is its decay in each step.
        flips: mirror half of the examples left to right.
        seed: of the first parameters, the flips, the dropout and the order of the images.
    """

    epochs: int = 24
    batch_size: int = 16
    learning_rate: float = 4e-3
    weight_decay: float = 5e-2
    averaging: float = 0.99
    flips: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the field.
        """
        if min(self.epochs, self.batch_size) < 1 or not self.learning_rate > 0 or self.weight_decay < 0:
            raise ValueError(
                f"epochs, batch_size and learning_rate must be above 0, weight_decay not below, got {self}"
            )
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging: expected a decay in [0, 1), got {self.averaging}")


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["params", "average", "optimizer", "step", "key"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes, and the random key: what a checkpoint holds.

    Attributes:
        params: of the network.
        average: their moving average.
        optimizer: state of the optimiser.
        step: steps done, int32.
        key: data of the random key; each step derives its own from it and `step`.
    """

    params: Any
    average: Any
    optimizer: Any
    step: Any  # not Array: transformations put placeholders into a pytree
    key: Any


def optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """AdamW on gradients clipped to a norm of 1, its rate warmed up and then falling along a cosine."""
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.learning_rate, max(1, steps // 10), max(2, steps))
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=recipe.weight_decay))


def initial_state(net: FusionNet, recipe: Recipe, steps: int) -> TrainState:
    """The state before the first step: parameters drawn from the seed."""
    first, later = jax.random.split(jax.random.key(recipe.seed))
    params = fusion_net.init(net, first)
    state = optimizer(recipe, steps).init(params)
    return TrainState(params, params, state, jnp.zeros((), jnp.int32), jax.random.key_data(later))


def cached_inputs(batch: Batch) -> Float[Array, "N C h w"]:
    """The maps that the reader took from a file."""
    return batch["maps"]


def make_step(
    net: FusionNet, recipe: Recipe, steps: int, shape: tuple[int, int], inputs: Inputs = cached_inputs
) -> Callable[[TrainState, Batch], tuple[TrainState, Array]]:
    """The jitted training step: (state, batch) to (state, mean loss of the batch).

    The batch may be split over devices along its first axis: the compiler adds the sums across them.

    Args:
        net: the shape of the network.
        recipe: of the training.
        steps: in all, for the schedule.
        shape: (height, width) of the frame of the fixations.
        inputs: from a batch to its stacks of maps.

    Returns:
        The function. Blank examples (mask False) count for nothing.
    """
    rule = optimizer(recipe, steps)

    @jax.jit
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        for_flips, for_dropout = jax.random.split(key)
        maps, truth = inputs(batch), gfdms(batch, shape)
        if recipe.flips:
            flipped = jax.random.bernoulli(for_flips, 0.5, (len(maps),))
            maps = jnp.where(flipped[:, None, None, None], maps[..., ::-1], maps)
            truth = jnp.where(flipped[:, None, None], truth[..., ::-1], truth)

        def mean_loss(params):
            keys = jax.random.split(for_dropout, len(maps))
            losses = jax.vmap(functools.partial(_loss, net, params))(maps, truth, keys)
            return jnp.sum(jnp.where(batch["mask"], losses, 0.0)) / jnp.maximum(batch["mask"].sum(), 1).astype(
                jnp.float32
            )

        value, gradient = jax.value_and_grad(mean_loss)(state.params)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the power of its integer count
            updates, moved = rule.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        # Early on the average follows quickly, so that it does not remember the first random parameters.
        done = state.step.astype(jnp.float32)
        decay = jnp.minimum(recipe.averaging, (1.0 + done) / (10.0 + done))
        average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.average, params)
        return TrainState(params, average, moved, state.step + 1, state.key), value

    return step


def make_scores(
    net: FusionNet, shape: tuple[int, int], inputs: Inputs = cached_inputs, on_each: NamedSharding | None = None
) -> Callable[[Any, Batch], dict[str, Array]]:
    """The jitted evaluation: (params, batch) to the PCC, SIM and mask (N,) of all processes' examples.

    Both compare the fused map at full size, as `explain` gives it, with the GFDM at full size.

    Args:
        net: the shape of the network.
        shape: (height, width) of the frame of the fixations.
        inputs: from a batch to its stacks of maps.
        on_each: sharding of the result where the batch is split: every device, and so every process, gets all.
    """

    @functools.partial(jax.jit, out_shardings=on_each)
    def scores(params: Any, batch: Batch) -> dict[str, Array]:
        def fused(maps):
            return fusion_net.predict(net, params, maps, shape)

        found = jax.vmap(score_maps)(jax.vmap(fused)(inputs(batch)), gfdms(batch, shape))
        return {**found, "mask": batch["mask"]}

    return scores


def score_all(scored: Iterable[Mapping[str, Array]]) -> dict[str, np.ndarray]:
    """PCC and SIM (examples,) of all real examples of the scored batches, in order."""
    found = [{name: np.asarray(value) for name, value in batch.items()} for batch in scored]
    return {name: np.concatenate([batch[name][batch["mask"]] for batch in found]) for name in ("pcc", "sim")}


def fit(
    net: FusionNet, recipe: Recipe, batches: Iterable[Batch], *, examples: int, shape: tuple[int, int]
) -> TrainState:
    """The state after training on all batches, without files: for cross-validation.

    Args:
        net: the shape of the network.
        recipe: of the training.
        batches: of `recipe.epochs` epochs, with cached maps.
        examples: number of examples in an epoch.
        shape: (height, width) of the frame of the fixations.
    """
    steps = batches_per_epoch(examples, recipe.batch_size) * recipe.epochs
    state, step = initial_state(net, recipe, steps), make_step(net, recipe, steps, shape)
    for batch in batches:
        state, _ = step(state, batch)
    return jax.block_until_ready(state)


def gfdms(batch: Batch, shape: tuple[int, int]) -> Float[Array, "N H W"]:
    """The GFDM of each example of a batch."""
    return gaze_densities(batch["fixations"], shape, sigma_px=batch["sigma_px"], mask=batch["fixation_mask"])


def score_maps(map: Float[Array, "H W"], gfdm: Float[Array, "H W"]) -> dict[str, Array]:
    """PCC and SIM of one map."""
    return {"pcc": pcc(map, gfdm), "sim": _similarity(map, gfdm)}


def _similarity(map: Float[Array, "H W"], gfdm: Float[Array, "H W"]) -> Float[Array, ""]:
    """SIM of the paper: both sum to one, then the sum of the minima; NaN where one is blank."""
    return jnp.minimum(map / map.sum(), gfdm / gfdm.sum()).sum()


def _loss(net: FusionNet, params: Any, maps: Array, gfdm: Array, key: Array) -> Array:
    prediction = fusion_net.apply(net, params, maps, key=key)
    return fusion_net.loss(net, prediction, mean_pool(gfdm[None, ..., None], net.stride)[0, ..., 0])
