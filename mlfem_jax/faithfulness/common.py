"""What the faithfulness tests share: what they take, what the network says of a class, which maps have a score."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Num, UInt8

from mlfem_jax.backbones import Backbone, Forward, LogitFunction, forward_pass

Arrays: TypeAlias = Array | np.ndarray
Image: TypeAlias = Float[Arrays, "H W 3"] | UInt8[Arrays, "H W 3"]
Map: TypeAlias = Float[Arrays, "H W"]
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


def or_predicted(target: Target, backbone: Backbone, image: Float[Array, "H W 3"]) -> Target:
    """The target; None is the class that the network predicts."""
    return forward_pass(backbone, image[None]).logits[0].argmax() if target is None else target


def same_size(image: Num[Arrays, "..."], importance: Num[Arrays, "..."]) -> None:
    """Refuses a map that is not of the image's height and width."""
    if image.ndim != 3 or image.shape[:2] != importance.shape:
        raise ValueError(f"importance: expected (H, W) of the image {image.shape}, got {importance.shape}")


def defined(importance: Map) -> Array:
    """Whether a map puts some pixel before another."""
    low, high = importance.min(), importance.max()
    return jnp.isfinite(high - low) & (high > low)
