"""What an explanation method is, and what it gets to see."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.backbones import Forward
from mlfem_jax.fusion import OPERATORS, fuse
from mlfem_jax.importance import normalize as min_max
from mlfem_jax.upsampling import Grid, upsample


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registry entry.

    Attributes:
        maps: (forward, **options) to importance maps (N, H, W) in [0, 1], at the size of the network's input; what is
            said of (N, H, W) holds for (N, *S), with the spatial axes that the network's data has. Its keyword-only
            parameters, with their defaults, are the options that `explain` accepts for it.
        needs: what it costs: the activations of one forward, a gradient, repeated forwards, or nothing.
        summary: one line for people.
        of_class: whether it explains a class, so that `explain(target=...)` means something.
    """

    maps: Callable[..., Float[Array, " N *S"]]
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


def to_maps(raw: Float[Array, " N *s"], size: tuple[int, ...], grid: Grid | None = None) -> Float[Array, " N *S"]:
    """Raw maps upsampled to `size` and scaled to [0, 1], in float32; a constant or non-finite one becomes zeros."""
    maps = jax.vmap(lambda importance: min_max(upsample(importance, size, grid=grid)))(raw.astype(jnp.float32))
    return jnp.clip(maps, 0.0, 1.0)  # XLA may compute a map twice, for its minimum and for itself, an ulp apart


def finish(values: Float[Array, " N *s"], size: tuple[int, ...], *, sign: str, raw: bool) -> Float[Array, "N ..."]:
    """The maps of a method: the part of `sign`, upsampled, in [0, 1]; or, raw, the values as they are, in float32."""
    return values.astype(jnp.float32) if raw else to_maps(take_sign(values, sign), size)


def only_layer(values: Sequence[Float[Array, "N ..."]]) -> Float[Array, "N ..."]:
    """The raw map of the one layer that there is.

    Raises:
        ValueError: there are several, whose fusion has no raw form.
    """
    if len(values) != 1:
        raise ValueError(f"raw: expected one layer, whose map is not fused, got {len(values)}")
    return values[0].astype(jnp.float32)


def fuse_layers(
    raw: Sequence[Float[Array, "N ..."]],
    size: tuple[int, ...],
    grids: Sequence[Grid | None],
    *,
    operator: str,
    alpha: float,
    normalize: str,
) -> Float[Array, " N *S"]:
    """One map of each image from the raw maps of its layers, which `to_maps` prepares; one layer's is its own.

    Args:
        raw: of each layer, first layer first.
        size: of the maps.
        grids: of each layer, see `mlfem_jax.upsample`.
        operator: see `fusion.fuse`.
        alpha: see `fusion.fuse`.
        normalize: see `fusion.fuse`.

    Raises:
        ValueError: unknown operator or normalization, an alpha outside [0, 1].
    """
    if operator not in OPERATORS:
        raise ValueError(f"fuse: expected one of {', '.join(OPERATORS)}, got {operator!r}")
    # A list, not a stack: XLA then takes in layer after layer, and writes no full-size map but the fused one.
    maps = [to_maps(importance, size, grid) for importance, grid in zip(raw, grids, strict=True)]
    return jax.vmap(lambda layers: fuse(layers, operator=operator, alpha=alpha, normalize=normalize))(maps)


def baseline_inputs(forward: Forward, baseline: str) -> Float[Array, "1 ... C"]:
    """What stands for "nothing there", preprocessed: a black or a white pixel, or zero (ImageNet's mean color).

    Of data other than photographs "black" is an example of zeros before the preprocessing, such as silence.

    Raises:
        ValueError: unknown baseline; white, where the data has no largest value.
    """
    if baseline not in ("black", "white", "zero"):
        raise ValueError(f"baseline: expected 'black', 'white' or 'zero', got {baseline!r}")
    if baseline == "zero":
        return jnp.zeros((*[1] * (forward.inputs.ndim - 1), forward.inputs.shape[-1]), forward.inputs.dtype)
    if not forward.backbone.photos:
        if baseline == "white":
            raise ValueError("baseline: expected 'black' or 'zero' for data other than photographs, got 'white'")
        nothing = jnp.zeros((1, *forward.inputs.shape[1:]), jnp.float32)
        return forward.backbone.preprocess(nothing).astype(forward.inputs.dtype)
    pixel = jnp.full((1, 1, 1, 3), 255 if baseline == "white" else 0, jnp.uint8)
    return forward.backbone.preprocess(pixel).astype(forward.inputs.dtype)


def need_photos(forward: Forward, method: str) -> None:
    """Refuses a method that reads photographs alone for a network of other data.

    Raises:
        ValueError: names the method.
    """
    if not forward.backbone.photos:
        raise ValueError(f"method: expected one for data other than photographs, got {method!r}, which reads colors")


def without_rule(method: str, *parts: str) -> dict[str, Callable]:
    """Rules that refuse a network with parts of these kinds (fields of `Rules`), of which the method knows nothing.

    Example:
        >>> without_rule("full_grad", "softmax")["softmax"](jax.nn.softmax, jnp.zeros(2))
        Traceback (most recent call last):
        ValueError: method: expected one with a rule for the network's softmax parts, got 'full_grad'
    """

    def refuse(part: str) -> Callable:
        def rule(*_: Any) -> Any:
            raise ValueError(f"method: expected one with a rule for the network's {part} parts, got {method!r}")

        return rule

    return {part: refuse(part) for part in parts}


def along(values: Array, axis: int, axes: int) -> Array:
    """A vector over one of so many axes, the others of length 1: what broadcasts against an array of them.

    Example:
        >>> along(jnp.arange(4), 1, 3).shape
        (1, 4, 1)
    """
    return jnp.expand_dims(values, tuple(other for other in range(axes) if other != axis % axes))


def by_example(values: Array, like: Array) -> Array:
    """(N,) with an axis of length 1 for each further axis of `like`, (N, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def each_axis(name: str, value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    """A number for each spatial axis: one for all of them, or as many as there are.

    Raises:
        ValueError: another number of them, or one below 1.

    Example:
        >>> each_axis("window_px", 32, 2), each_axis("window_px", (5, 16, 16), 3)
        ((32, 32), (5, 16, 16))
    """
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        raise ValueError(f"{name}: expected one number, or one for each of the {axes} axes, got {value}")
    for number in values:
        check_count(name, number)
    return values


def finish_layers(
    forward: Forward,
    values: Mapping[str, Float[Array, "N ..."]],
    *,
    sign: str,
    fuse: str,
    alpha: float,
    normalize: str,
    raw: bool,
) -> Float[Array, "N ..."]:
    """The maps of a method that lives on layers: their parts of `sign`, fused; or, raw, the values of the one layer.

    Args:
        forward: the batch.
        values: layer name to raw maps, at the layer's size.
        sign: see `take_sign`.
        fuse: see `fuse_layers`, and so for `alpha` and `normalize`.
        alpha: see there.
        normalize: see there.
        raw: see above.
    """
    if raw:
        return only_layer(list(values.values()))
    shown = [take_sign(importance, sign) for importance in values.values()]
    grids = [forward.backbone.grid(layer) for layer in values]
    return fuse_layers(shown, forward.size, grids, operator=fuse, alpha=alpha, normalize=normalize)


def check_count(name: str, value: int, least: int = 1) -> None:
    """Refuses a number of samples, steps or pixels that is too small.

    Raises:
        ValueError: `value` is less than `least`.
    """
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
