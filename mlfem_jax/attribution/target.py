"""Which class a map explains, and by which number."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mlfem_jax.backbones import Backbone, Contrast, LogitFunction, Output

Target = int | str | Sequence[Any] | np.ndarray | Array | Callable[..., Any] | None
"""What a method explains, as `mlfem_jax.explain` takes it."""


def class_score(
    logits: Float[Array, "N classes"],
    classes: Int[Array, "N K"] | Float[Array, "N classes"] | LogitFunction,
    score: str = "logit",
    output: Output = "softmax",
) -> Float[Array, " N"]:
    """What a method explains: the sum over an image's classes of their logits, log-probabilities or probabilities.

    Of a network that tells no classes it is the part of its embedding that lies in a given direction, by default in
    the embedding's own: its similarity with itself.

    Args:
        logits: (N, classes), any floating dtype; computed with in float32.
        classes: (N, K); (N, D) directions of length 1; or a function of the logits, which is the score itself.
        score: "logit", "log_probability" or "probability".
        output: how logits become probabilities: by the softmax over all classes, or by the sigmoid of each.

    Raises:
        ValueError: unknown score.

    Example:
        >>> class_score(jnp.array([[1.0, 5.0, 3.0]]), jnp.array([[1, 2]]))
        Array([8.], dtype=float32)
    """
    logits = logits.astype(jnp.float32)
    if isinstance(classes, LogitFunction):
        return classes(logits)
    if jnp.issubdtype(classes.dtype, jnp.floating):
        if score != "logit":
            raise ValueError(f"score: expected 'logit' of a network that tells no classes, got {score!r}")
        return (logits * classes).sum(axis=1)
    match score:
        case "logit":
            scores = logits
        case "log_probability":
            scores = (jax.nn.log_softmax if output == "softmax" else jax.nn.log_sigmoid)(logits)
        case "probability":
            scores = (jax.nn.softmax if output == "softmax" else jax.nn.sigmoid)(logits)
        case _:
            raise ValueError(f"score: expected 'logit', 'log_probability' or 'probability', got {score!r}")
    return jnp.take_along_axis(scores, classes, axis=1).sum(axis=1)


def moves(scores: Float[Array, "M N"], logits: Float[Array, "N classes"], score: str) -> Bool[Array, " N"]:
    """Whether an image's score changes by more than rounding when parts of the image are hidden.

    Min-max would stretch the rounding errors of a score that stays the same over all of [0, 1], so a map of such an
    image is made blank. A logit is taken to be known to 2e-7 (twice float32's precision) of the largest logit, and
    probabilities and their logarithms as well as follows from that. After a forward in bfloat16 a score that moves at
    all moves by more, so there only scores that stay exactly the same count.

    Args:
        scores: of M perturbed copies of each image.
        logits: of the images themselves.
        score: what the scores are, see `class_score`.

    Returns:
        (N,), false where a score is not finite.

    Example:
        >>> moves(jnp.array([[5.0, 5.0], [5.0, 6.0]]), jnp.array([[5.0, 7.0], [5.0, 7.0]]), "logit")
        Array([False,  True], dtype=bool)
    """
    rounding = 2 * float(jnp.finfo(jnp.float32).eps) * jnp.abs(logits.astype(jnp.float32)).max(axis=1)
    # d p_c = p_c (d z_c - sum of p_k d z_k), which is at most 2 p_c (1 - p_c) times the largest d z_k; a sigmoid's is
    # half of that.
    slope = {"logit": 1.0, "log_probability": 2.0}.get(score, (2 * scores * (1 - scores)).max(axis=0))
    return jnp.ptp(scores, axis=0) > slope * rounding


def class_targets(
    backbone: Backbone, target: Target, images: int | None
) -> Int[np.ndarray, "M K"] | LogitFunction | None:
    """The classes to explain, one row for each image, or a single row for all of them.

    Args:
        backbone: the network, for the number of its classes.
        target: None, the predicted class; an integer, that class for all images; (N,) integers, one class for each
            image; (N, K) or (1, K), several classes for each image or for all of them, whose scores are summed. Of a
            network that tells no classes: None or "self", the image's own embedding. A function of one example's
            logits (classes,), such as `Contrast(3, 5)`, is the score that is explained.
        images: how many there are; None where that is not known (an iterator).

    Raises:
        ValueError: no integers, a class that the network does not have, or another number of them than of images.

    Example:
        >>> class_targets(load_backbone("resnet18", weights="random"), [3, 5], 2).tolist()
        [[3], [5]]
    """
    if target is None or (backbone.embeds and isinstance(target, str) and target == "self"):
        return None
    if callable(target):
        return _function(backbone, target)
    if backbone.embeds:
        raise ValueError(f"target: {backbone.name!r} tells no classes; expected 'self', got {target!r:.80}")
    found = np.asarray(target)
    if not np.issubdtype(found.dtype, np.integer) or found.ndim > 2 or 0 in found.shape:
        raise ValueError(f"target: expected class numbers (an integer, (N,) or (N, K)), got {target!r:.80}")
    rows = found.reshape(1, 1) if found.ndim == 0 else found[:, None] if found.ndim == 1 else found
    per_image = found.ndim > 0 and not (found.ndim == 2 and len(found) == 1)
    if per_image and len(rows) != images:
        has = "an iterator, whose length is not known" if images is None else f"{images} images"
        raise ValueError(f"target: expected one class, or one for each image, got {len(rows)} for {has}")
    classes = _class_count(backbone)
    if rows.min() < 0 or rows.max() >= classes:
        raise ValueError(f"target: expected classes from 0 to {classes - 1}, got {rows.min()} to {rows.max()}")
    return rows.astype(np.int32)


def parse_target(text: str) -> int | list[list[int]] | Contrast | str:
    """A target from the command line: "281", "281,282", several classes summed, or "281-282", a contrast of two.

    Raises:
        ValueError: the text is none of them.

    Example:
        >>> parse_target("281,282"), parse_target("281-282")
        ([[281, 282]], Contrast(for_class=281, against=282))
    """
    if text == "self":
        return text
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"\d+(,\d+)+", text):
        return [[int(number) for number in text.split(",")]]
    if re.fullmatch(r"\d+-\d+", text):
        return Contrast(*(int(number) for number in text.split("-")))
    raise ValueError(
        f"target: expected a class (281), several (281,282), a contrast of two (281-282) or self, got {text!r}"
    )


def _function(backbone: Backbone, target: Callable[..., Any]) -> LogitFunction:
    """The function as a target, once it has been seen to take the network's logits."""
    function = target if isinstance(target, LogitFunction) else LogitFunction(target)
    count = _class_count(backbone)
    if isinstance(function.function, Contrast) and max(function.function.for_class, function.function.against) >= count:
        raise ValueError(f"target: expected classes from 0 to {count - 1}, got {function.function}")
    jax.eval_shape(function, jax.ShapeDtypeStruct((1, count), jnp.float32))
    return function


def _class_count(backbone: Backbone) -> int:
    inputs = jax.ShapeDtypeStruct((1, *backbone.input_shape), jnp.float32)
    return jax.eval_shape(backbone.apply, backbone.params, inputs)[0].shape[1]
