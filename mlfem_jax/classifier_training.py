"""Training a classifier: the step, the losses, the evaluation, and the state. Pure functions; no files.

The loop that keeps checkpoints is in `training.py`, the script in `train/classifier.py`.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float

from mlfem_jax import classification
from mlfem_jax.backbones.trainable import Classifier
from mlfem_jax.data.augment import Augmentation, augment
from mlfem_jax.data.pipeline import Batch as ReaderBatch

Batch: TypeAlias = Mapping[str, Any]
Loss: TypeAlias = Literal["softmax", "sigmoid"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images in a step, of all devices together.
        learning_rate: peak of the schedule: up over the warm-up, then down to 0 along a cosine.
        warmup: share of the steps.
        weight_decay: of AdamW, on kernels alone; 0 is Adam.
        clip: largest norm of the gradient; 0 for no limit.
        label_smoothing: share of the target that is spread evenly: over the classes (softmax), over present and absent
            (sigmoid).
        accumulate: parts that a batch is computed in, one after the other, to save memory. Their gradients are
            averaged; batch norm normalises each part by its own statistics, and moves the running ones for each.
        freeze: train the head alone; batch norm uses its running statistics and leaves them.
        norm_momentum: weight of a batch in batch norm's running statistics. Default: the architecture's own.
        dtype: of the forward and backward pass; parameters, statistics and the loss are float32.
        augmentation: what happens to the photographs.
        seed: of the first parameters, the augmentation and the order of the images.
    """

    epochs: int = 12
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 1e-2
    clip: float = 1.0
    label_smoothing: float = 0.1
    accumulate: int = 1
    freeze: bool = False
    norm_momentum: float | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the field.
        """
        if min(self.epochs, self.batch_size, self.accumulate) < 1 or not self.learning_rate > 0:
            raise ValueError(f"epochs, batch_size, accumulate and learning_rate must be above 0, got {self}")
        if min(self.weight_decay, self.clip) < 0:
            raise ValueError(f"weight_decay and clip must not be below 0, got {self.weight_decay} and {self.clip}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate: expected a divisor of {self.batch_size}, got {self.accumulate}")
        if not 0 <= self.warmup < 1 or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"warmup and label_smoothing: expected shares in [0, 1), got {self.warmup} and {self.label_smoothing}"
            )
        if self.norm_momentum is not None and not 0 < self.norm_momentum <= 1:
            raise ValueError(f"norm_momentum: expected a weight in (0, 1], got {self.norm_momentum}")


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


def choose_loss(labels: Sequence[tuple[int, ...]]) -> Loss:
    """The loss that fits the labels: "softmax" where no image has two classes, else "sigmoid".

    Args:
        labels: of each image; empty where unknown.

    Raises:
        ValueError: no image has a label.

    Example:
        >>> choose_loss([(0,), (2,), ()]), choose_loss([(0,), (0, 2)])
        ('softmax', 'sigmoid')
    """
    if not any(labels):
        raise ValueError("labels: expected some images with labels, found none: there is nothing to learn")
    return "softmax" if max(map(len, labels)) == 1 else "sigmoid"


def classification_losses(
    logits: Float[Array, "N classes"], labels: Bool[Array, "N classes"], *, loss: Loss, label_smoothing: float = 0.0
) -> Float[Array, " N"]:
    """The loss of each example, in float32.

    Args:
        logits: of any dtype.
        labels: multi-hot; one class an example for "softmax".
        loss: "softmax", the cross-entropy of the one class; "sigmoid", the mean over classes of each one's binary
            cross-entropy.
        label_smoothing: see `Recipe`.

    Example:
        >>> labels = jnp.array([[True, False]])
        >>> classification_losses(jnp.zeros((1, 2)), labels, loss="softmax").round(4).tolist()  # log 2
        [0.6931]
    """
    logits, truth = logits.astype(jnp.float32), labels.astype(jnp.float32)
    if loss == "softmax":
        targets = truth * (1 - label_smoothing) + label_smoothing / logits.shape[1]
        return optax.softmax_cross_entropy(logits, targets)
    targets = truth * (1 - label_smoothing) + label_smoothing / 2
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=1)


def optimizer(recipe: Recipe, steps: int, head: str) -> optax.GradientTransformation:
    """AdamW on clipped gradients, its rate warmed up and then falling along a cosine; of the head alone if frozen."""
    warmup = round(recipe.warmup * steps)
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.learning_rate, warmup, max(warmup + 1, steps))
    clip = optax.clip_by_global_norm(recipe.clip) if recipe.clip else optax.identity()
    rule = optax.chain(clip, optax.adamw(rate, weight_decay=recipe.weight_decay, mask=_kernels))
    if not recipe.freeze:
        return rule

    def parts(params: Any) -> Any:
        return {name: jax.tree.map(lambda _, n=name: n == head, layer) for name, layer in params.items()}

    return optax.partition({True: rule, False: optax.set_to_zero()}, parts)


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


def _kernels(params: Any) -> Any:
    """True where weight decay acts: not on biases, nor on batch norm's scale."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
