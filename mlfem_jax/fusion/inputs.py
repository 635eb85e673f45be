"""What a fusion network is trained on: of each image, what is computed once by the frozen network and kept."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from mlfem_jax.backbones import Backbone, forward_pass, read_layers
from mlfem_jax.fusion.channels import pack, strong_positions
from mlfem_jax.fusion.stacks import map_stack


@dataclasses.dataclass(frozen=True)
class MapRecipe:
    """Which importance maps a fusion network reads.

    Attributes:
        layers: names of layers, first layer first, and of attentions (`Backbone.attentions`), whose heads are channels.
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

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of the maps, for an input of (height, width), or of any other number of axes."""
        return tuple(-(-side // self.shrink) for side in shape)

    def read(self, backbone: Backbone, images: Array | np.ndarray) -> Any:
        """What is kept of a batch of images (N, H, W, 3), already at the size of the network's input: their stacks."""
        return image_maps(backbone, images, self)


@dataclasses.dataclass(frozen=True)
class MaskRecipe(MapRecipe):
    """Which strong positions a fusion of reweighted FEM is trained on; fields as `MapRecipe`."""

    def read(self, backbone: Backbone, images: Array | np.ndarray) -> tuple[UInt8[Array, "N K _h _w _B"], ...]:
        """See `MapRecipe`: of each layer its strong positions for every k, eight channels to a byte."""
        activations = read_layers(forward_pass(backbone, images), self.layers)

        def packed(activation: Array) -> Array:
            return pack(strong_positions(activation, self.ks))

        return tuple(jax.vmap(packed)(activation) for activation in activations.values())


def image_maps(backbone: Backbone, images: Array | np.ndarray, recipe: MapRecipe) -> Float[Array, "N C ..."]:
    """Stacks of a batch of images (N, H, W, 3), or recordings (N, *S, C), at the size of the network's input."""
    forward = forward_pass(backbone, images)
    options = {"layers": recipe.layers, "ks": recipe.ks, "signs": [backbone.sign(name) for name in recipe.layers]}
    stack = functools.partial(map_stack, shape=recipe.size(forward.size), **options)
    return jax.vmap(stack)(read_layers(forward, recipe.layers))
