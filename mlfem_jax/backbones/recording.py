"""What the adapters of modules share: outputs of submodules are heard by their paths, and put in order."""

from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from typing import Any

import jax

from mlfem_jax.backbones.hooks import Tap, no_tap

Activation = Callable[[jax.Array], jax.Array]


def check_tap(tap: Tap, activation: Activation | None) -> None:
    """A tap behind an `activation` that only FEM applies would change what the network computes."""
    if tap is not no_tap and activation is not None:
        raise ValueError(
            "activation: expected none where the gradient at a layer is needed, got one: behind a non-linearity that "
            "the network applies as a function it cannot be had; make the non-linearity a submodule and name it in "
            "`layers`, without `activation`"
        )


def check_once(path: str, called: Container[str], tap: Tap) -> None:
    """The gradient at a module that the network calls twice would be that of both calls."""
    if tap is not no_tap and path in called:
        raise ValueError(
            f"layers: expected modules that the network calls once, got {path!r}, which it calls more than once, so "
            "that there is no one gradient there; give each call a module of its own. Methods that need activations "
            "see the last call"
        )


def child(parent: Any, part: str, path: str) -> Any:
    """The submodule called `part`, of the one whose full path is for the error."""
    try:
        return parent[int(part)] if part.isdigit() else getattr(parent, part)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        there = [name for name in vars(parent) if not name.startswith("_")] if hasattr(parent, "__dict__") else []
        raise ValueError(
            f"layers: expected the path of a module, got {path!r}; in the place of {part!r} there is "
            f"{', '.join(there) or 'nothing'}"
        ) from error


def in_order(
    recorded: dict[str, Any], layers: Sequence[str], activation: Activation | None
) -> "OrderedDict[str, jax.Array]":
    """What was heard, in the order of the layers that were asked for; `activation` of each."""
    missing = [layer for layer in layers if layer not in recorded]
    if missing:
        there = ", ".join(path for path in recorded if path) or "nothing"
        raise ValueError(
            f"layers: expected modules that the network calls, got {', '.join(missing)}; it called {there}"
        )
    return OrderedDict((layer, activation(recorded[layer]) if activation else recorded[layer]) for layer in layers)
