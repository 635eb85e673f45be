"""How a classifier is trained: the recipe, its losses and its optimizer."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from mlfem_jax.training.classifier.augmentation import Augmentation
from mlfem_jax.training.step import adamw

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
            averaged; batch norm normalizes each part by its own statistics, and moves the running ones for each.
        freeze: train the head alone; batch norm uses its running statistics and leaves them.
        norm_momentum: weight of a batch in batch norm's running statistics. Default: the architecture's own.
        dtype: of the forward and backward pass; parameters, statistics and the loss are float32.
        augmentation: what happens to the photographs; nothing happens to recordings.
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
            raise ValueError(f"epochs, batch_size, accumulate and learning_rate: expected numbers above 0, got {self}")
        if min(self.weight_decay, self.clip) < 0:
            raise ValueError(f"weight_decay and clip: expected at least 0, got {self.weight_decay} and {self.clip}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate: expected a divisor of {self.batch_size}, got {self.accumulate}")
        if not 0 <= self.warmup < 1 or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"warmup and label_smoothing: expected shares in [0, 1), got {self.warmup} and {self.label_smoothing}"
            )
        if self.norm_momentum is not None and not 0 < self.norm_momentum <= 1:
            raise ValueError(f"norm_momentum: expected a weight in (0, 1], got {self.norm_momentum}")


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
        raise ValueError("labels: expected some images with labels, got none; there is nothing to learn")
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
        >>> f"{float(classification_losses(jnp.zeros((1, 2)), labels, loss='softmax')[0]):.4f}"  # log 2
        '0.6931'
    """
    logits, truth = logits.astype(jnp.float32), labels.astype(jnp.float32)
    if loss == "softmax":
        targets = truth * (1 - label_smoothing) + label_smoothing / logits.shape[1]
        return optax.softmax_cross_entropy(logits, targets)
    targets = truth * (1 - label_smoothing) + label_smoothing / 2
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=1)


def optimizer(recipe: Recipe, steps: int, head: str) -> optax.GradientTransformation:
    """The recipe's AdamW, weight decay on kernels alone; of the head alone if the rest is frozen."""
    rule = adamw(
        steps,
        learning_rate=recipe.learning_rate,
        warmup_steps=round(recipe.warmup * steps),
        weight_decay=recipe.weight_decay,
        clip=recipe.clip,
        decayed=_kernels,
    )
    if not recipe.freeze:
        return rule

    def parts(params: Any) -> Any:
        return {name: jax.tree.map(lambda _, n=name: n == head, layer) for name, layer in params.items()}

    return optax.partition({True: rule, False: optax.set_to_zero()}, parts)


def _kernels(params: Any) -> Any:
    """True where weight decay acts: not on biases, nor on batch norm's scale."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
