"""Training a classifier: the state, the step and the evaluation. Pure functions; no files.

The recipe is in `classifier_recipe.py`, the loop that keeps checkpoints in `training.py`, the script in
`train/classifier.py`.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from mlfem_jax.backbones import Classifier
from mlfem_jax.data import Batch as ReaderBatch
from mlfem_jax.training.classifier import scores as classification
from mlfem_jax.training.classifier.augmentation import augment
from mlfem_jax.training.classifier.recipe import Loss, Recipe, classification_losses, optimizer

Batch: TypeAlias = Mapping[str, Any]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["params", "statistics", "optimizer", "step", "key"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes, and the random key: what a checkpoint holds.

    Attributes:
        params: of the network, float32.
        statistics: running means and variances of its batch norms, float32.
        optimizer: state of the optimiser.
        step: steps done, int32.
        key: data of the random key; each step derives its own from it and `step`.
    """

    params: Any
    statistics: Any
    optimizer: Any
    step: Any  # not Array: transformations put placeholders into a pytree
    key: Any


def initial_state(classifier: Classifier, recipe: Recipe, steps: int, params: Any, statistics: Any) -> TrainState:
    """The state before the first step."""
    state = optimizer(recipe, steps, classifier.head).init(params)
    key = jax.random.key_data(jax.random.key(recipe.seed))
    return TrainState(params, statistics, state, jnp.zeros((), jnp.int32), key)


def batch_fields(batch: ReaderBatch) -> dict[str, np.ndarray]:
    """What training needs of a batch of the reader.

    Returns:
        `images`, `labels`, `mask`; and `numbers` (N,), a hash of each image's id, from which its augmentation is drawn,
        so that it does not matter which process or device gets the image.
    """
    numbers = np.array([zlib.crc32(str(id).encode()) for id in batch.ids], np.uint32)
    return {"images": batch.images, "labels": batch.labels, "mask": batch.mask, "numbers": numbers}


def make_step(
    classifier: Classifier, recipe: Recipe, steps: int, loss: Loss
) -> Callable[[TrainState, Batch], tuple[TrainState, Array]]:
    """The jitted training step: (state, batch) to (state, mean loss of the batch).

    The batch may be split over devices along its first axis: the compiler adds the sums across them, those of batch
    norm's statistics too. It must be full: no example that only fills it up.

    Args:
        classifier: the network.
        recipe: of the training.
        steps: in all, for the schedule.
        loss: from `choose_loss`.
    """
    rule = optimizer(recipe, steps, classifier.head)

    def mean_loss(params: Any, statistics: Any, batch: Batch, key: Array) -> tuple[Array, Any]:
        if recipe.freeze:
            params = {
                name: layer if name == classifier.head else jax.lax.stop_gradient(layer)
                for name, layer in params.items()
            }
        inputs = training_inputs(classifier, recipe, batch, key)
        logits, statistics = classifier.apply(params, statistics, inputs, running=recipe.freeze)
        smoothing = recipe.label_smoothing
        return classification_losses(logits, batch["labels"], loss=loss, label_smoothing=smoothing).mean(), statistics

    @jax.jit
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        value, statistics, gradient = _accumulated(mean_loss, recipe.accumulate, state, batch, key)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the power of its integer count
            updates, moved = rule.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, statistics, moved, state.step + 1, state.key), value

    return step


def training_inputs(classifier: Classifier, recipe: Recipe, batch: Batch, key: Array) -> Float[Array, "N H W 3"]:
    """The augmented, preprocessed images of a batch, in the dtype of the forward pass."""
    photos = batch["images"].astype(jnp.float32) / 255

    def changed(number: Array, photo: Array) -> Array:
        return augment(jax.random.fold_in(key, number), photo, classifier.input_size, recipe.augmentation)

    return classifier.preprocess(jax.vmap(changed)(batch["numbers"], photos)).astype(recipe.dtype)


def make_scores(
    classifier: Classifier, recipe: Recipe, loss: Loss, on_each: NamedSharding
) -> Callable[[TrainState, Batch], dict[str, Array]]:
    """The jitted evaluation: (state, batch) to probabilities, losses, labels and mask of all processes' examples.

    Args:
        classifier: the network, which normalises by its running statistics.
        recipe: for the dtype.
        loss: from `choose_loss`; probabilities are the softmax, or the sigmoid of each class.
        on_each: sharding of the result: every device, and so every process, gets all.
    """

    @functools.partial(jax.jit, out_shardings=on_each)
    def scores(state: TrainState, batch: Batch) -> dict[str, Array]:
        inputs = classifier.preprocess(batch["images"]).astype(recipe.dtype)
        logits, _ = classifier.apply(state.params, state.statistics, inputs, running=True)
        logits = logits.astype(jnp.float32)
        probabilities = jax.nn.softmax(logits) if loss == "softmax" else jax.nn.sigmoid(logits)
        losses = classification_losses(logits, batch["labels"], loss=loss)
        return {"probabilities": probabilities, "losses": losses, "labels": batch["labels"], "mask": batch["mask"]}

    return scores


def evaluate(scored: Iterable[Mapping[str, Any]], loss: Loss) -> tuple[dict[str, float], np.ndarray | None]:
    """Mean loss, top-1 and mean average precision of all real examples; and for "softmax" the confusion matrix.

    Args:
        scored: what `make_scores` gave for each batch.
        loss: as there.
    """
    found = [{name: np.asarray(value) for name, value in batch.items()} for batch in scored]
    probabilities, losses, labels = (
        np.concatenate([batch[name][batch["mask"]] for batch in found])
        for name in ("probabilities", "losses", "labels")
    )
    scores = {
        "validation_loss": float(losses.mean()),
        "top_1": classification.top_1(probabilities, labels),
        "map": classification.mean_average_precision(probabilities, labels),
    }
    if loss == "sigmoid":
        return scores, None
    truth, prediction = labels.argmax(axis=1), probabilities.argmax(axis=1)
    return scores, classification.confusion_matrix(truth, prediction, labels.shape[1])


def _accumulated(
    mean_loss: Callable[..., tuple[Array, Any]], parts: int, state: TrainState, batch: Batch, key: Array
) -> tuple[Array, Any, Any]:
    """(loss, statistics, gradient) of a batch that is computed in parts."""
    gradient_of = jax.value_and_grad(mean_loss, has_aux=True)
    if parts == 1:
        (value, statistics), gradient = gradient_of(state.params, state.statistics, batch, key)
        return value, statistics, gradient
    # Every parts-th example, so that each device has its share of each part.
    split = jax.tree.map(lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1), batch)

    def add(carry: Any, part: Batch) -> tuple[Any, None]:
        total, statistics, gradients = carry
        (value, statistics), gradient = gradient_of(state.params, statistics, part, key)
        return (total + value, statistics, jax.tree.map(jnp.add, gradients, gradient)), None

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    (value, statistics, gradient), _ = jax.lax.scan(add, (jnp.float32(0), state.statistics, zeros), split)
    return value / parts, statistics, jax.tree.map(lambda leaf: leaf / parts, gradient)
