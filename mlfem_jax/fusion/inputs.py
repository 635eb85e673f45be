"""What a fusion network reads: FEM maps of several layers and k, made at its own resolution."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlfem_jax.backbones import Backbone, forward_pass
from mlfem_jax.fusion.network import ARCHITECTURES
from mlfem_jax.importance import fem, normalize


def map_stack(activations: Any, shape: tuple[int, int], *, layers: Sequence[str], ks: Sequence[float]) -> Array:
    """The stack of one example that a fusion network reads: FEM of every layer and k, resized and put in [0, 1].

    Where a map is made smaller, each pixel is a weighted mean of what it covers (a triangle twice as wide).

    Args:
        activations: layer name to activation (h, w, C) of ONE example.
        shape: of the maps: that of the backbone's input over the `shrink` of the network, rounded up.
        layers: names, first layer first.
        ks: values of k.

    Returns:
        (layers times ks, *shape) float32 in [0, 1]: layer by layer, for each layer every k; a constant map is 0.
    """

    def of_layer(activation: Array) -> Array:
        # All k at once: a kernel a step, where one k after the other would be as many kernels as maps.
        raw = jax.vmap(lambda k: fem(activation, k=k))(jnp.asarray(ks, jnp.float32))
        return jax.vmap(normalize)(jax.image.resize(raw, (len(ks), *shape), "linear"))

    return jnp.concatenate([of_layer(activations[name]) for name in layers])


@dataclasses.dataclass(frozen=True)
class MapRecipe:
    """Which importance maps a fusion network reads.

    Attributes:
        layers: names, first layer first.
        ks: values of k; each layer gives one map for each.
        shrink: the maps are made at 1 / `shrink` of the input's resolution.
    """

    layers: tuple[str, ...]
    ks: tuple[float, ...]
    shrink: int

    @property
    def channels(self) -> int:
        """Number of maps."""
        return len(self.layers) * len(self.ks)

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Of the maps, for an input of (height, width)."""
        return -(-shape[0] // self.shrink), -(-shape[1] // self.shrink)


def default_maps(
    architecture: str, layers: tuple[str, ...], ks: tuple[float, ...] | None = None, shrink: int | None = None
) -> MapRecipe:
    """The maps that an architecture reads where nothing else is said.

    "net": the paper's, k = 2 at full size. "unet": nine values of k at an eighth of the size.

    Example:
        >>> default_maps("net", ("first", "second"), shrink=4)
        MapRecipe(layers=('first', 'second'), ks=(2.0,), shrink=4)
    """
    net = ARCHITECTURES[architecture]
    return MapRecipe(layers, ks or net.ks, shrink or net.shrink)


def image_maps(backbone: Backbone, images: Array | np.ndarray, recipe: MapRecipe) -> Float[Array, "N C h w"]:
    """Stacks of a batch of images (N, H, W, 3), already at the size of the network's input."""
    forward = forward_pass(backbone, images)
    size = recipe.size(forward.size)
    return jax.vmap(lambda example: map_stack(example, size, layers=recipe.layers, ks=recipe.ks))(forward.activations)
