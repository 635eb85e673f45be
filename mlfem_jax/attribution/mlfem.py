"""FEM on one layer, and MLFEM: FEM on many layers, fused by algebra."""

import functools
from collections import OrderedDict
from collections.abc import Iterable

import jax
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, fuse_layers
from mlfem_jax.backbones import Activations, Forward
from mlfem_jax.fusion import ALPHA
from mlfem_jax.importance import fem, layer_maps
from mlfem_jax.upsampling import Grid


def layer_stacks(
    forward: Forward, *, layers: tuple[str, ...] | None = None, k: float = 2.0, sign: str | None = None
) -> Float[Array, "N L *S"]:
    """The FEM importance maps of the layers of each image, at the size of the network's input.

    Args:
        forward: the batch.
        layers: names; None is all of them.
        k: see `mlfem_jax.fem`.
        sign: see `mlfem_jax.fem`; None is each layer's own, which the backbone names.
    """
    size, chosen = forward.size, _chosen(forward, layers)
    signs, grids = _signs(forward, chosen, sign), _grids(forward, chosen)
    return jax.vmap(lambda example: layer_maps(example, size, k=k, sign=signs, grids=grids))(chosen)


def fem_maps(
    forward: Forward,
    *,
    layers: tuple[str, ...] | None = None,
    k: float = 2.0,
    sign: str | None = None,
    raw: bool = False,
) -> Float[Array, "N ..."]:
    """FEM of the last layer, or of the last of `layers`; `raw`, at its own size. Source: the paper, section 2.1."""
    last = (layers or tuple(forward.activations))[-1]
    if raw:
        chosen = forward.backbone.sign(last) if sign is None else sign
        return jax.vmap(functools.partial(fem, k=k, sign=chosen))(forward.activations[last])
    return layer_stacks(forward, layers=(last,), k=k, sign=sign)[:, 0]


def fused_maps(
    forward: Forward,
    *,
    operator: str,
    layers: tuple[str, ...] | None = None,
    k: float = 2.0,
    sign: str | None = None,
    alpha: float = ALPHA,
    normalize: str = "end",
) -> Float[Array, " N *S"]:
    """MLFEM: the FEM maps of all `layers` fused by `operator`. Source: the paper, sections 2.2 and 2.3."""
    chosen = _chosen(forward, layers)
    signs = _signs(forward, chosen, sign)
    pairs = zip(chosen.values(), signs, strict=True)
    raw = [jax.vmap(functools.partial(fem, k=k, sign=sign))(activation) for activation, sign in pairs]
    grids = _grids(forward, chosen)
    return fuse_layers(raw, forward.size, grids, operator=operator, alpha=alpha, normalize=normalize)


def _signs(forward: Forward, layers: Iterable[str], sign: str | None) -> tuple[str, ...]:
    return tuple(forward.backbone.sign(layer) if sign is None else sign for layer in layers)


def _grids(forward: Forward, layers: Iterable[str]) -> list[Grid | None]:
    return [forward.backbone.grid(layer) for layer in layers]


def _chosen(forward: Forward, layers: tuple[str, ...] | None) -> Activations:
    return OrderedDict((name, forward.activations[name]) for name in layers or forward.activations)


def _fused(operator: str, summary: str) -> Entry:
    return Entry(functools.partial(fused_maps, operator=operator), "activations", summary)


METHODS = {
    "fem": Entry(fem_maps, "activations", "FEM of the last layer"),
    "max": _fused("max", "MLFEM: the largest value of any layer"),
    "add": _fused("add", "MLFEM: layers added one by one, the last ones weighing most"),
    "top": _fused("top", "MLFEM: as add, keeping of each layer what is above its mean"),
    "mean": _fused("mean", "MLFEM: the mean of all layers"),
    "product": _fused("product", "MLFEM: the product of all layers"),
}
