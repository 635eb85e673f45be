"""What `mlfem explain` looks at: the options of its command line as one function of a batch."""

import dataclasses
import functools
import re
from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp

from mlfem_jax import attribution
from mlfem_jax.attribution import METHODS, Method, Target, accepted_options, layer_stacks, net_reasons, parse_target
from mlfem_jax.backbones import Backbone, Forward, select_layers
from mlfem_jax.fusion import ARCHITECTURES, OPERATORS, fuse
from mlfem_jax.importance import fem, normalize


def look_of(
    network: Backbone, method: str, *, layers: str, k: float, alpha: float, net: dict[str, str], why: bool
) -> "Look | LookAll":
    """The function of a batch that gives all that is drawn of it.

    Args:
        network: what is explained.
        method: name of the method whose map is the one.
        layers: see `parse_layers`; the method net has its own where it is "all".
        k: see `fem`.
        alpha: see `fuse`.
        net: see `net_options`.
        why: also the reasons of the method net.
    """
    chosen = select_layers(network.layers, parse_layers(layers))
    options = {"layers": chosen, "k": k, "alpha": alpha}
    if method == "net" and layers == "all":
        del options["layers"]
    options = {name: options[name] for name in accepted_options(method) if name in options} | net
    bound = attribution.method(method, **options)
    if not network.photos:
        return LookAll(bound, chosen, k, alpha)
    return Look(bound, chosen, k, alpha, tuple(net.items()) if why else None)


@dataclasses.dataclass(frozen=True)
class Look:
    """All that is drawn of a batch, from one forward pass; equal settings share one compiled function.

    Attributes:
        chosen: the method.
        layers: those that are shown.
        k: see `fem`.
        alpha: see `fuse`.
        reasons: options of the method net, whose reasons are shown; None: they are not.
    """

    chosen: Method
    layers: tuple[str, ...]
    k: float
    alpha: float
    reasons: tuple[tuple[str, Any], ...] | None

    def __call__(self, forward: Forward) -> dict[str, Any]:
        """The largest probabilities, the maps of every fusion and of the method, those of the layers, and reasons."""
        probabilities, _, maps = _shown(forward, self.chosen, self.layers, self.k, self.alpha)
        shown = 0 if forward.backbone.embeds else min(5, probabilities.shape[-1])
        # The layers' maps keep their own resolution: it is all there is, and little to bring to the host.

        def layer_map(name: str) -> jax.Array:
            sign = forward.backbone.sign(name)
            return jax.vmap(lambda activation: normalize(fem(activation, k=self.k, sign=sign)))(
                forward.activations[name]
            )

        return {
            "top": jax.lax.top_k(probabilities, shown),
            "maps": maps,
            "layers": OrderedDict((name, layer_map(name)) for name in self.layers),
            "why": None if self.reasons is None else net_reasons(forward, **dict(self.reasons)),
        }


@dataclasses.dataclass(frozen=True)
class LookAll:
    """All that is drawn of a batch of windows; equal settings share one compiled function.

    Attributes:
        chosen: the method.
        layers: those that are shown.
        k: see `fem`.
        alpha: see `fuse`.
    """

    chosen: Method
    layers: tuple[str, ...]
    k: float
    alpha: float

    def __call__(self, forward: Forward) -> dict[str, Any]:
        """Probabilities, the maps of every fusion and of the method, and those of the layers."""
        probabilities, stacks, maps = _shown(forward, self.chosen, self.layers, self.k, self.alpha)
        layers = OrderedDict((name, stacks[:, index]) for index, name in enumerate(self.layers))
        return {"probabilities": probabilities, "maps": maps, "layers": layers}


def _shown(
    forward: Forward, chosen: Method, layers: tuple[str, ...], k: float, alpha: float
) -> tuple[jax.Array, jax.Array, OrderedDict[str, jax.Array]]:
    """Probabilities, the stack of the layers' maps, and the maps of every fusion, those of the method first."""
    to_probabilities = jax.nn.softmax if forward.backbone.output == "softmax" else jax.nn.sigmoid
    stacks = layer_stacks(forward, layers=layers, k=k)
    maps = OrderedDict(
        (operator, jax.vmap(functools.partial(fuse, operator=operator, alpha=alpha))(stacks)) for operator in OPERATORS
    )
    if chosen.name not in maps:
        maps[chosen.name] = chosen(forward)
        maps.move_to_end(chosen.name, last=False)
    return to_probabilities(forward.logits.astype(jnp.float32)), stacks, maps


def target_of(method: str, text: str | None) -> Target:
    """The target of a command line, for a method that explains one."""
    if text is not None and not METHODS[method].of_class:
        raise ValueError(f"target: expected none, since {method!r} explains no particular class, got {text!r}")
    return None if text is None else parse_target(text)


def parse_layers(text: str) -> slice | list[int | str] | None:
    """The layers of a command line: "all", a slice ("3:8"), or names and numbers with commas."""
    if text == "all":
        return None
    if re.fullmatch(r"-?\d*:-?\d*", text):
        return slice(*(int(end) if end else None for end in text.split(":")))
    return [int(word) if re.fullmatch(r"-?\d+", word) else word for word in text.split(",") if word]


def net_options(method: str, fusion: str | None, why: bool) -> dict[str, str]:
    """The options of the method net that its fusion means: the name of a packaged one, or a file."""
    if method != "net" and (why or fusion is not None):
        raise ValueError(f"{'why' if why else 'fusion'}: expected with the method 'net' alone, got {method!r}")
    if fusion is None:
        return {}
    return {"architecture": fusion} if fusion in ARCHITECTURES else {"weights": fusion}
