"""A word of warning where FEM sees activations below zero, and nobody said what that should mean."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool

from mlfem_jax.attribution import Method, accepted_options
from mlfem_jax.backbones import Backbone, Forward

Batches = Iterator[tuple[int, Any]]


@dataclasses.dataclass(frozen=True)
class Watched:
    """A method that also says which layers of which image go below zero."""

    method: Method
    layers: tuple[str, ...]

    def __call__(self, forward: Forward) -> tuple[Array, Bool[Array, "N L"]]:
        """Importance maps (N, *S), and (N, layers)."""
        negative = [forward.activations[layer] < 0 for layer in self.layers]
        below = [values.any(axis=tuple(range(1, values.ndim))) for values in negative]
        return self.method(forward), jnp.stack(below, axis=1)


def warning_of_signs(
    backbone: Backbone, method: Method, run: Callable[..., Batches], layers: tuple[str, ...]
) -> Callable[..., Batches]:
    """`run` with the method; it warns of the first batch's layers that go below zero where nobody chose a sign.

    Where somebody did (the backbone names its signs, as all named networks do, or the option is given), nothing is
    computed beside the maps.

    Args:
        backbone: the network.
        method: what makes the maps.
        run: (images, function=...) to the outputs of batch after batch.
        layers: those that FEM sees.
    """
    options = accepted_options(method.name)
    if backbone.signs or "k" not in options or "sign" not in options or dict(method.options).get("sign") is not None:
        return lambda *images, **more: run(*images, function=method, **more)
    watched = Watched(method, layers)

    def watching(*images: Any, **more: Any) -> Batches:
        warned = False
        for count, (maps, below) in run(*images, function=watched, **more):
            if not warned:
                _warn([layer for layer, found in zip(layers, below[:count].any(axis=0), strict=True) if found])
            warned = True
            yield count, maps

    return watching


def _warn(layers: list[str]) -> None:
    if layers:
        warnings.warn(
            f"activations below zero in the layers {', '.join(layers)}: FEM takes them as they are, so that channels "
            "of negative mean vote against the positions where they are strong. Choose sign='two_sided', 'relu' or "
            "'as_is' here, or `signs` of the backbone",
            stacklevel=2,
        )
