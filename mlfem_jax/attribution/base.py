"""What an explanation method is, and what it gets to see."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mlfem_jax.backbones.base import Activations, Backbone
from mlfem_jax.fem import normalize as min_max
from mlfem_jax.fem import upsample

Layers = str | int | slice | Sequence[str | int] | None


@dataclasses.dataclass(frozen=True)
class Forward:
    """One forward pass over a batch: all that a method may use, computed once whatever the number of methods.

    Attributes:
        backbone: the network, with its parameters.
        inputs: (N, H, W, 3) preprocessed images, in the forward's dtype.
        logits: (N, classes).
        activations: ordered dict of (N, h, w, C), first layer first.
        targets: (N, K) classes to explain, K of them for each image; None is the predicted one.
    """

    backbone: Backbone
    inputs: Float[Array, "N H W 3"]
    logits: Float[Array, "N classes"]
    activations: Activations
    targets: Int[Array, "N K"] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the network's input."""
        return self.inputs.shape[1], self.inputs.shape[2]

    @property
    def classes(self) -> Int[Array, "N K"]:
        """The classes to explain, predicted where none were given."""
        return self.logits.argmax(axis=1)[:, None] if self.targets is None else self.targets

    def run(self, inputs: Float[Array, "N H W 3"], **hooks: Any) -> Float[Array, "N classes"]:
        """Logits of other inputs; `hooks` are the backbone's `tap` and `rules`."""
        return self.backbone.apply(self.backbone.params, inputs.astype(self.inputs.dtype), **hooks)[0]


@dataclasses.dataclass(frozen=True)
class Method:
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


def select_layers(names: Sequence[str], layers: Layers) -> tuple[str, ...]:
    """The chosen layers by name, in the network's order.

    Args:
        names: all layers of the network, first first.
        layers: a name, an index (negative from the end), a slice, a sequence of names and indices, or None for all.

    Raises:
        ValueError: a layer that does not exist, or no layer chosen; it lists what there is.

    Example:
        >>> select_layers(("stem", "body", "head"), [-1, "stem"])
        ('stem', 'head')
    """
    if layers is None:
        return tuple(names)
    if isinstance(layers, slice):
        chosen = set(names[layers])
    else:
        wanted = [layers] if isinstance(layers, str | int) else layers
        chosen = {_layer_name(names, layer) for layer in wanted}
    if not chosen:
        raise ValueError(f"layers: {layers!r} chooses none of {', '.join(names)}")
    return tuple(name for name in names if name in chosen)


def _layer_name(names: Sequence[str], layer: str | int) -> str:
    if isinstance(layer, int) and -len(names) <= layer < len(names):
        return names[layer]
    if layer in names:
        return str(layer)
    raise ValueError(f"layers: there is no layer {layer!r}; the {len(names)} layers are {', '.join(names)}")


def take_sign(attribution: Float[Array, "*S"], sign: str) -> Float[Array, "*S"]:
    """The part of a signed attribution that a map shows: what speaks for the class, against it, or both.

    Args:
        attribution: any shape.
        sign: "positive" max(a, 0), "negative" max(-a, 0), or "absolute" |a|.

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
    raise ValueError(f"sign: expected 'positive', 'negative' or 'absolute', got {sign!r}")


def to_maps(raw: Float[Array, "N h w"], size: tuple[int, int]) -> Float[Array, "N H W"]:
    """Raw maps upsampled to `size` and scaled to [0, 1], in float32; a constant or non-finite one becomes zeros."""
    maps = jax.vmap(lambda map: min_max(upsample(map, size)))(raw.astype(jnp.float32))
    return jnp.clip(maps, 0.0, 1.0)  # XLA may compute a map twice, for its minimum and for itself, an ulp apart


def baseline_inputs(forward: Forward, baseline: str) -> Float[Array, "1 1 1 3"]:
    """One preprocessed pixel that stands for "nothing there": black, white, or zero (ImageNet's mean colour).

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
