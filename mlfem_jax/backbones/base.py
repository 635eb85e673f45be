"""What a backbone is: a pure function from images, or other data, to logits and named activations."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlfem_jax.upsampling import Grid

Activations = OrderedDict[str, Float[Array, "N ... _C"]]
"""Layer name to activation, first layer first. JAX sorts the keys of a plain dict; an OrderedDict keeps its order."""

Output: TypeAlias = Literal["softmax", "sigmoid"]
"""How logits become probabilities: one class of many, or each class for itself."""
Apply = Callable[..., tuple[Float[Array, "N classes"], Activations]]
Preprocess = Callable[[Array | np.ndarray], Float[Array, "N ... C"]]


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A classifier ready to be explained, of photographs or of anything else with one to three spatial axes.

    `logits, activations = backbone.apply(backbone.params, backbone.preprocess(images))`

    What is said of images (N, H, W, 3) holds for signals (N, L, C), and for clips and volumes (N, T, H, W, C). The
    channel axis is always there; `explain` adds it where an example comes without.

    It is a pytree whose only child is `params`, so it passes through `jax.jit` and `jax.device_put` whole; the
    rest is static. Two files of one named network of photographs run the same compiled function; a network of your own
    is a new one each time it is made: `dataclasses.replace(backbone, params=others)` gives it other weights.

    Attributes:
        name: the name it was loaded by.
        apply: pure; (params, inputs (N, H, W, 3)) to logits (N, classes) and an ordered dict of activations
            (N, h, w, C), first layer first: the tensors that FEM sees. It may take two keywords: `tap`, a function
            (layer name, activation) to the activation that the network goes on with, which gradients at a layer
            need; and `rules` (`backbones.rules.Rules`), which modified backward passes need. A transformer hands its
            attention softmaxes (N, heads, T, T) to `tap` too, by the names of `attentions`, and takes `depth`, after
            how many blocks the head reads the tokens.
        params: a pytree of arrays.
        preprocess: (N, H, W, 3) uint8, or float in [0, 1], to the float32 input that the network was trained on.
        layers: names of the activations, in order.
        input_size: (height, width) in pixels of the images that it was trained on; one number for each spatial axis.
        labels: class names in the order of the logits; empty where they are not known.
        output: how its logits were trained to be read: "softmax", one class an image; "sigmoid", any number of them, or
            a single logit.
        signs: what FEM does with activations below zero, see `mlfem_jax.fem`: one for each layer. Empty: nobody chose,
            FEM takes them as they are, and `explain` warns where there are some.
        attentions: names of the layers' attention softmaxes, one for each layer; empty where there are none.
        prefix: how many tokens stand before those of the patches, the class token first.
        gradient_layer: the layer that Grad-CAM and its kin see by default; empty: the last one.
        embeds: the outputs are an image's embedding (N, D), not the logits of classes.
        channels: of the input.
        photos: the input is photographs, which are resized, and whose values are uint8 or in [0, 1]; other data goes in
            as it is.
        grids: where the positions of each layer lie in the input; None for one that covers it evenly. Empty: all do.
        frame_step: the sides of a photograph's own `frame` are multiples of so many pixels; of a transformer whole
            patches, beyond which it would see nothing.
    """

    name: str
    apply: Apply
    params: Any
    preprocess: Preprocess
    layers: tuple[str, ...]
    input_size: tuple[int, ...]
    labels: tuple[str, ...] = ()
    output: Output = "softmax"
    signs: tuple[str, ...] = ()
    attentions: tuple[str, ...] = ()
    prefix: int = 0
    gradient_layer: str = ""
    embeds: bool = False
    channels: int = 3
    photos: bool = True
    grids: tuple[Grid | None, ...] = ()
    frame_step: int = 32

    def __post_init__(self) -> None:
        """Checks the signs and the grids."""
        for name, values in (("signs", self.signs), ("grids", self.grids)):
            if values and len(values) != len(self.layers):
                raise ValueError(f"{name}: expected one for each of {len(self.layers)} layers, got {len(values)}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example, channels last."""
        return *self.input_size, self.channels

    @property
    def photo_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the photographs that it was trained on.

        Raises:
            ValueError: it takes other data.
        """
        if not self.photos:
            raise ValueError(f"backbone: expected a network of photographs, got {self.name!r}, which takes other data")
        height, width = self.input_size
        return height, width

    def sign(self, layer: str) -> str:
        """What FEM does with that layer's activations below zero; those of an attention are none."""
        if layer in self.attentions:
            return "as_is"
        return self.signs[self.layers.index(layer)] if self.signs else "as_is"

    def grid(self, layer: str) -> Grid | None:
        """Where the positions of that layer, or of that attention, lie in the input; None: they cover it evenly."""
        names = self.attentions if layer in self.attentions else self.layers
        return self.grids[names.index(layer)] if self.grids else None

    def astype(self, dtype: Any) -> "Backbone":
        """The same backbone with its floating-point parameters in `dtype`; the forward follows them."""

        def cast(leaf):
            return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

        return dataclasses.replace(self, params=jax.tree.map(cast, self.params))


jax.tree_util.register_dataclass(
    Backbone,
    data_fields=["params"],
    meta_fields=[field.name for field in dataclasses.fields(Backbone) if field.name != "params"],
)
