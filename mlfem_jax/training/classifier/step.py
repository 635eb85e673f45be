"""Training a classifier: the loss of a step, and the evaluation. Pure functions; no files."""

import functools
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from mlfem_jax.backbones import Classifier
from mlfem_jax.data import Batch as ReaderBatch
from mlfem_jax.training import step as steps_of
from mlfem_jax.training.classifier import scores as classification
from mlfem_jax.training.classifier.augmentation import augment
from mlfem_jax.training.classifier.recipe import Loss, Recipe, classification_losses, optimizer
from mlfem_jax.training.step import Batch, TrainState, real_examples


def initial_state(classifier: Classifier, recipe: Recipe, steps: int, params: Any, statistics: Any) -> TrainState:
    """The state before the first step; beside the parameters are the statistics of the batch norms."""
    rule = optimizer(recipe, steps, classifier.head)
    return steps_of.initial_state(params, statistics, rule, jax.random.key(recipe.seed))


def batch_fields(batch: ReaderBatch) -> dict[str, np.ndarray]:
    """What training needs of a batch of the reader.

    Returns:
        `images`, `labels`, `mask`; and `numbers` (N,), a hash of each image's id, from which its augmentation is drawn,
        so that it does not matter which process or device gets the image.
    """
    numbers = np.array([zlib.crc32(str(image_id).encode()) for image_id in batch.ids], np.uint32)
    return {"images": batch.images, "labels": batch.labels, "mask": batch.mask, "numbers": numbers}


def make_step(
    classifier: Classifier, recipe: Recipe, steps: int, loss: Loss, on_each: NamedSharding | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, Array]]:
    """The jitted training step, see `mlfem_jax.training.step.make_step`.

    Batch norm's statistics are of the whole batch, over all devices too. It must be full: no example that only fills it
    up.

    Args:
        classifier: the network.
        recipe: of the training.
        steps: in all, for the schedule.
        loss: from `choose_loss`.
        on_each: from `batch_sharding`, where the state is split.
    """

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

    rule = optimizer(recipe, steps, classifier.head)
    return steps_of.make_step(mean_loss, rule, accumulate=recipe.accumulate, on_each=on_each)


def training_inputs(classifier: Classifier, recipe: Recipe, batch: Batch, key: Array) -> Float[Array, "N ... C"]:
    """The augmented, preprocessed images of a batch, in the dtype of the forward pass; recordings as they are."""
    if not classifier.photos:
        return classifier.preprocess(batch["images"]).astype(recipe.dtype)
    photos = batch["images"].astype(jnp.float32) / 255

    def changed(number: Array, photo: Array) -> Array:
        return augment(jax.random.fold_in(key, number), photo, classifier.photo_size, recipe.augmentation)

    return classifier.preprocess(jax.vmap(changed)(batch["numbers"], photos)).astype(recipe.dtype)


def make_scores(
    classifier: Classifier, recipe: Recipe, loss: Loss, on_each: NamedSharding
) -> Callable[[TrainState, Batch], dict[str, Array]]:
    """The jitted evaluation: (state, batch) to probabilities, losses, labels and mask of all processes' examples.

    Args:
        classifier: the network, which normalizes by its running statistics.
        recipe: for the dtype.
        loss: from `choose_loss`; probabilities are the softmax, or the sigmoid of each class.
        on_each: sharding of the result: every device, and so every process, gets all.
    """

    @functools.partial(jax.jit, out_shardings=on_each)
    def scores(state: TrainState, batch: Batch) -> dict[str, Array]:
        inputs = classifier.preprocess(batch["images"]).astype(recipe.dtype)
        params = jax.lax.with_sharding_constraint(state.params, on_each)
        logits, _ = classifier.apply(params, state.beside, inputs, running=True)
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
    found = real_examples(scored)
    probabilities, losses, labels = (found[name] for name in ("probabilities", "losses", "labels"))
    scores = {
        "validation_loss": float(losses.mean()),
        "top_1": classification.top_1(probabilities, labels),
        "map": classification.mean_average_precision(probabilities, labels),
    }
    if loss == "sigmoid":
        return scores, None
    truth, prediction = labels.argmax(axis=1), probabilities.argmax(axis=1)
    return scores, classification.confusion_matrix(truth, prediction, labels.shape[1])
