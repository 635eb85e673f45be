"""What every trainer's step is made of: the state, the optimizer, and the jitted step around a loss. No files."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.tree_util import Partial
from jaxtyping import Array

from mlfem_jax.parallel import put_state, state_sharding

if TYPE_CHECKING:
    from chex import ArrayTree
else:
    ArrayTree = Any  # beartype, which reads annotations while the tests run, fails on this recursive alias

Batch: TypeAlias = Mapping[str, Any]
Loss: TypeAlias = Callable[[ArrayTree, ArrayTree, Batch, Array], tuple[Array, ArrayTree]]


@chex.dataclass(frozen=True, mappable_dataclass=False)
class TrainState:
    """All that a step changes, and the random key: what a checkpoint holds.

    Attributes:
        params: of the network, float32.
        beside: what changes with them but is not learned: a classifier's batch norm statistics, or the moving average
            of a fusion network's parameters.
        optimizer: state of the optimizer.
        step: steps done, int32.
        key: data of the random key; each step derives its own from it and `step`.
    """

    params: ArrayTree
    beside: ArrayTree
    optimizer: Any  # optax's own containers
    step: Any  # not Array: transformations put placeholders into a pytree
    key: Any


def adamw(
    steps: int,
    *,
    learning_rate: float,
    warmup_steps: int,
    weight_decay: float,
    clip: float,
    decayed: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
    """AdamW on clipped gradients, its rate warmed up and then falling along a cosine.

    Args:
        steps: in all.
        learning_rate: peak of the schedule.
        warmup_steps: until the peak.
        weight_decay: 0 is Adam.
        clip: largest norm of the gradient; 0 for no limit.
        decayed: from the parameters to a tree that is True where weight decay acts. Default: everywhere.
    """
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, max(warmup_steps + 1, steps))
    limit = optax.clip_by_global_norm(clip) if clip else optax.identity()
    return optax.chain(limit, optax.adamw(rate, weight_decay=weight_decay, mask=decayed))


def initial_state(
    params: ArrayTree, beside: ArrayTree, rule: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """The state before the first step, of copies: a step gives the memory of the state that it gets to the next.

    Of a state that is split over devices it is what `make_state` compiles.

    Example:
        >>> int(initial_state({"w": jnp.ones(2)}, {}, optax.sgd(0.1), jax.random.key(0)).step)
        0
    """
    params, beside, key = jax.tree.map(jnp.array, (params, beside, jax.random.key_data(key)))
    return TrainState(params=params, beside=beside, optimizer=rule.init(params), step=jnp.zeros((), jnp.int32), key=key)


def state_shapes(initial: Partial, on_each: NamedSharding) -> Any:
    """Shape, dtype and place of each array of a state, of which nothing is made.

    Args:
        initial: see `make_state`.
        on_each: from `batch_sharding`; see `state_sharding`.
    """
    shapes = jax.eval_shape(initial)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        state_sharding(shapes, on_each),
    )


def make_state(initial: Partial, on_each: NamedSharding) -> Any:
    """A state on the devices, computed by one function where it is to lie: none ever holds more than its part.

    Args:
        initial: what makes it, without arguments of its own; those bound to it are NumPy arrays, such as the weights of
            a file, of which each device gets its part too.
        on_each: from `batch_sharding`; see `state_sharding`.

    Example:
        >>> from mlfem_jax.parallel import batch_sharding
        >>> initial = Partial(lambda weights: {"params": weights, "step": jnp.int32(0)}, np.ones((2, 3), np.float32))
        >>> make_state(initial, batch_sharding(4, jax.devices()[:1])[1])["params"].shape
        (2, 3)
    """
    places = jax.tree.map(lambda leaf: leaf.sharding, state_shapes(initial, on_each))
    given = put_state(initial, state_sharding(initial, on_each))
    return jax.jit(_made, out_shardings=places)(given)


def _made(initial: Partial) -> Any:
    return initial()


def make_step(
    loss: Loss,
    rule: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    after: Callable[[TrainState], TrainState] = lambda state: state,
    on_each: NamedSharding | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Array]]:
    """The jitted training step: (state, batch) to (state, mean loss of the batch). It takes the state's memory.

    The batch may be split over devices along its first axis: the compiler adds the sums across them. Large arrays of
    the state may be, see `state_sharding`: then a step gathers the parameters, never an activation, and each device
    keeps the sum of its part of the gradient alone.

    Args:
        loss: (params, beside, batch, key) to (mean loss of the batch, new `beside`).
        rule: the optimizer.
        accumulate: parts that a batch is computed in, one after the other; see `Recipe` of the classifier.
        after: what else changes once the parameters have, before `step` counts.
        on_each: from `batch_sharding`, where the state is split.
    """

    def gathered(tree: Any) -> Any:
        return tree if on_each is None else jax.lax.with_sharding_constraint(tree, on_each)

    def spread(tree: Any) -> Any:
        return tree if on_each is None else jax.lax.with_sharding_constraint(tree, state_sharding(tree, on_each))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        value, beside, gradient = _accumulated(loss, accumulate, gathered(state.params), state.beside, batch, key)
        gradient = spread(gradient)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the power of its integer count
            updates, moved = rule.update(gradient, state.optimizer, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        state = after(dataclasses.replace(state, params=params, beside=beside, optimizer=moved))
        return spread(dataclasses.replace(state, step=state.step + 1)), value

    return step


def real_examples(scored: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """What was found for each real example of all batches, in order.

    Args:
        scored: for each batch arrays by name, the example first; those where `mask` is False only fill it up.
    """
    found = [{name: np.asarray(value) for name, value in batch.items()} for batch in scored]
    names = [name for name in found[0] if name != "mask"]
    return {name: np.concatenate([batch[name][batch["mask"]] for batch in found]) for name in names}


def _accumulated(loss: Loss, parts: int, params: Any, beside: Any, batch: Batch, key: Array) -> tuple[Array, Any, Any]:
    """(loss, beside, gradient) of a batch that is computed in parts."""
    gradient_of = jax.value_and_grad(loss, has_aux=True)
    if parts == 1:
        (value, beside), gradient = gradient_of(params, beside, batch, key)
        return value, beside, gradient
    # Every parts-th example, so that each device has its share of each part.
    split = jax.tree.map(lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1), batch)

    def add(carry: Any, part: Batch) -> tuple[Any, None]:
        total, beside, gradients = carry
        (value, beside), gradient = gradient_of(params, beside, part, key)
        return (total + value, beside, jax.tree.map(jnp.add, gradients, gradient)), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    (value, beside, gradient), _ = jax.lax.scan(add, (jnp.float32(0), beside, zeros), split)
    return value / parts, beside, jax.tree.map(lambda leaf: leaf / parts, gradient)
