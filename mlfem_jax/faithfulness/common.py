"""What the faithfulness tests share: what they take, what the network says of a class, which maps have a score."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Num

from mlfem_jax.backbones import Backbone, Forward, LogitFunction, forward_pass, unit_pixels
from mlfem_jax.parallel import images_at_once, over_chunks

Arrays: TypeAlias = Array | np.ndarray
Image: TypeAlias = Num[Arrays, "..."]
Map: TypeAlias = Float[Arrays, "*S"]
Target: TypeAlias = int | Int[Arrays, ""] | Int[Arrays, " K"] | LogitFunction | None
Output: TypeAlias = Literal["softmax", "sigmoid", "logit"]
Method: TypeAlias = Callable[[Forward], Any]

_OUTPUTS = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid, "logit": lambda logits: logits}


def confidences(logits: Float[Array, "N classes"], target: Target, *, output: Output) -> Float32[Array, " N"]:
    """What the network says of the target, image by image: of a class, of several together, or a function's value.

    NaN for a class that does not exist.
    """
    if output not in _OUTPUTS:
        raise ValueError(f"output: expected one of {', '.join(_OUTPUTS)}, got {output!r}")
    if isinstance(target, LogitFunction):
        return target(logits)
    values = _OUTPUTS[output](logits.astype(jnp.float32))
    return values.at[:, jnp.atleast_1d(jnp.asarray(target))].get(mode="fill", fill_value=jnp.nan).sum(axis=1)


def or_predicted(target: Target, backbone: Backbone, image: Float[Array, "*S C"]) -> Target:
    """The target; None is the class that the network predicts."""
    return forward_pass(backbone, image[None]).logits[0].argmax() if target is None else target


def ready(backbone: Backbone, image: Image) -> Float32[Array, "*S C"]:
    """The image with values in [0, 1]; other data with its channel axis, and its values as they are. In float32."""
    if backbone.photos:
        return unit_pixels(image)
    example = jnp.asarray(image).astype(jnp.float32)
    bare = backbone.channels == 1 and example.ndim == len(backbone.input_size)
    return example[..., None] if bare else example


def ready_pair(backbone: Backbone, image: Image, importance: Num[Arrays, "..."]) -> Float32[Array, "*S C"]:
    """`ready`; refuses a map that is not of the image's height and width, or of the spatial axes of other data."""
    example = ready(backbone, image)
    if example.ndim != len(backbone.input_shape) or example.shape[:-1] != importance.shape:
        axes = "(H, W) of the image" if backbone.photos else "the spatial axes of the example"
        raise ValueError(f"importance: expected {axes} {image.shape}, got {importance.shape}")
    return example


def confidences_beside(
    backbone: Backbone,
    before: Float32[Array, "*S C"],
    behind: Float32[Array, "*S C"],
    ranks: Int[Array, "*S"],
    counts: Int[Array, " N"],
    *,
    target: Target,
    output: Output,
    batch_size: int,
) -> Float32[Array, " N"]:
    """What the network says of an example that is `before` where the rank is below a count, and `behind` elsewhere."""

    def score(counts):
        first = ranks[None] < jnp.expand_dims(counts, tuple(range(1, ranks.ndim + 1)))
        examples = jnp.where(first[..., None], before[None], behind[None])
        return confidences(forward_pass(backbone, examples).logits, target, output=output)

    return over_chunks(score, counts, images_at_once(batch_size))


def defined(importance: Map) -> Array:
    """Whether a map puts some pixel before another."""
    low, high = importance.min(), importance.max()
    return jnp.isfinite(high - low) & (high > low)
