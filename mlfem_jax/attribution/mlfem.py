"""FEM on one layer, and MLFEM: FEM on many layers, fused by algebra."""

import functools
from collections import OrderedDict

import jax
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, fuse_layers
from mlfem_jax.backbones import Activations, Forward
from mlfem_jax.fusion import ALPHA
from mlfem_jax.importance import fem, layer_maps


def layer_stacks(forward: Forward, *, layers: tuple[str, ...] | None = None, k: float = 2.0) -> Float[Array, "N L H W"]:
    """The FEM importance maps of the layers of each image, at the size of the network's input."""
    size = forward.size
    return jax.vmap(lambda example: layer_maps(example, size, k=k))(_chosen(forward, layers))


def fem_maps(forward: Forward, *, layers: tuple[str, ...] | None = None, k: float = 2.0) -> Float[Array, "N H W"]:
    """FEM of the last layer, or of the last of `layers`. Source: the paper, section 2.1."""
    last = (layers or tuple(forward.activations))[-1]
    return layer_stacks(forward, layers=(last,), k=k)[:, 0]


def fused_maps(
    forward: Forward,
    *,
    operator: str,
    layers: tuple[str, ...] | None = None,
    k: float = 2.0,
    alpha: float = ALPHA,
    normalize: str = "end",
) -> Float[Array, "N H W"]:
    """MLFEM: the FEM maps of all `layers` fused by `operator`. Source: the paper, sections 2.2 and 2.3."""
    raw = [jax.vmap(functools.partial(fem, k=k))(activation) for activation in _chosen(forward, layers).values()]
    return fuse_layers(raw, forward.size, operator=operator, alpha=alpha, normalize=normalize)


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
