"""What an explanation method is, and what it gets to see."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.backbones import Forward
from mlfem_jax.fusion import OPERATORS, fuse
from mlfem_jax.importance import normalize as min_max, upsample


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registry entry.

    Attributes:
        maps: (forward, **options) to importance maps (N, H, W) in [0, 1], at the size of the network's input. Its
            keyword-only parameters, with their defaults, are the options that `explain` accepts for it.
        needs: what it costs: the activations of one forward, a gradient, repeated forwards, or nothing.
        summary: one line for people.
        of_class: whether it explains a class, so that `explain(target=...)` means something.
    """

    maps: Callable[..., Float[Array, "N H W"]]
    needs: Literal["activations", "gradient", "forwards", "nothing"]
    summary: str
    of_class: bool = False


def take_sign(attribution: Float[Array, "*S"], sign: str) -> Float[Array, "*S"]:
    """The part of a signed attribution that a map shows: what speaks for the class, against it, or both.

    Args:
        attribution: any shape.
        sign: "positive" max(a, 0), "negative" max(-a, 0), "absolute" |a|, or "signed", a itself.

    Raises:
        ValueError: unknown sign.

    Example:
        >>> take_sign(jnp.array([-2.0, 1.0]), "absolute")
        Array([2., 1.], dtype=float32)
    """
    match sign:
        case "positive":
            return jnp.maximum(attribution, 0.0)
        case "negative":
            return jnp.maximum(-attribution, 0.0)
        case "absolute":
            return jnp.abs(attribution)
        case "signed":
            return attribution
    raise ValueError(f"sign: expected 'positive', 'negative', 'absolute' or 'signed', got {sign!r}")


def to_maps(raw: Float[Array, "N h w"], size: tuple[int, int]) -> Float[Array, "N H W"]:
    """Raw maps upsampled to `size` and scaled to [0, 1], in float32; a constant or non-finite one becomes zeros."""
    maps = jax.vmap(lambda importance: min_max(upsample(importance, size)))(raw.astype(jnp.float32))
    return jnp.clip(maps, 0.0, 1.0)  # XLA may compute a map twice, for its minimum and for itself, an ulp apart


def finish(values: Float[Array, "N h w"], size: tuple[int, int], *, sign: str, raw: bool) -> Float[Array, "N _H _W"]:
    """The maps of a method: the part of `sign`, upsampled, in [0, 1]; or, raw, the values as they are, in float32."""
    return values.astype(jnp.float32) if raw else to_maps(take_sign(values, sign), size)


def only_layer(values: Sequence[Float[Array, "N _h _w"]]) -> Float[Array, "N _h _w"]:
    """The raw map of the one layer that there is.

    Raises:
        ValueError: there are several, whose fusion has no raw form.
    """
    if len(values) != 1:
        raise ValueError(f"raw: expected one layer, whose map is not fused, got {len(values)}")
    return values[0].astype(jnp.float32)


def fuse_layers(
    raw: Sequence[Float[Array, "N _h _w"]], size: tuple[int, int], *, operator: str, alpha: float, normalize: str
) -> Float[Array, "N H W"]:
    """One map of each image from the raw maps of its layers, which `to_maps` prepares; one layer's is its own.

    Args:
        raw: of each layer, first layer first.
        size: (height, width) of the maps.
        operator: see `fusion.fuse`.
        alpha: see `fusion.fuse`.
        normalize: see `fusion.fuse`.

    Raises:
        ValueError: unknown operator or normalization, an alpha outside [0, 1].
    """
    if operator not in OPERATORS:
        raise ValueError(f"fuse: expected one of {', '.join(OPERATORS)}, got {operator!r}")
    # A list, not a stack: XLA then takes in layer after layer, and writes no full-size map but the fused one.
    maps = [to_maps(importance, size) for importance in raw]
    return jax.vmap(lambda layers: fuse(layers, operator=operator, alpha=alpha, normalize=normalize))(maps)


def baseline_inputs(forward: Forward, baseline: str) -> Float[Array, "1 1 1 3"]:
    """One preprocessed pixel that stands for "nothing there": black, white, or zero (ImageNet's mean color).

    Raises:
        ValueError: unknown baseline.
    """
    if baseline not in ("black", "white", "zero"):
        raise ValueError(f"baseline: expected 'black', 'white' or 'zero', got {baseline!r}")
    if baseline == "zero":
        return jnp.zeros((1, 1, 1, 3), forward.inputs.dtype)
    pixel = jnp.full((1, 1, 1, 3), 255 if baseline == "white" else 0, jnp.uint8)
    return forward.backbone.preprocess(pixel).astype(forward.inputs.dtype)


def check_count(name: str, value: int, least: int = 1) -> None:
    """Refuses a number of samples, steps or pixels that is too small.

    Raises:
        ValueError: `value` is less than `least`.
    """
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
