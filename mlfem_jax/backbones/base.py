"""What a backbone is: a pure function from images to logits and named activations, with its parameters."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Activations = OrderedDict[str, Float[Array, "N _h _w _C"]]
"""Layer name to activation, first layer first. JAX sorts the keys of a plain dict; an OrderedDict keeps its order."""

Output: TypeAlias = Literal["softmax", "sigmoid"]
"""How logits become probabilities: one class of many, or each class for itself."""
Apply = Callable[..., tuple[Float[Array, "N classes"], Activations]]
Preprocess = Callable[[Array | np.ndarray], Float[Array, "N H W 3"]]


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A classifier ready to be explained.

    `logits, activations = backbone.apply(backbone.params, backbone.preprocess(images))`

    It is a pytree whose only child is `params`, so it passes through `jax.jit` and `jax.device_put` whole; the
    rest is static, and two backbones loaded apart are two different static values.

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
        input_size: (height, width) in pixels of the images that it was trained on.
        labels: class names in the order of the logits; empty where they are not known.
        output: how its logits were trained to be read: "softmax", one class an image; "sigmoid", any number of them, or
            a single logit.
        signs: what FEM does with activations below zero, see `mlfem_jax.fem`: one for each layer. Empty: nobody chose,
            FEM takes them as they are, and `explain` warns where there are some.
        attentions: names of the layers' attention softmaxes, one for each layer; empty where there are none.
        prefix: how many tokens stand before those of the patches, the class token first.
        gradient_layer: the layer that Grad-CAM and its kin see by default; empty: the last one.
        embeds: the outputs are an image's embedding (N, D), not the logits of classes.
    """

    name: str
    apply: Apply
    params: Any
    preprocess: Preprocess
    layers: tuple[str, ...]
    input_size: tuple[int, int]
    labels: tuple[str, ...] = ()
    output: Output = "softmax"
    signs: tuple[str, ...] = ()
    attentions: tuple[str, ...] = ()
    prefix: int = 0
    gradient_layer: str = ""
    embeds: bool = False

    def __post_init__(self) -> None:
        """Checks the signs."""
        if self.signs and len(self.signs) != len(self.layers):
            raise ValueError(f"signs: expected one for each of {len(self.layers)} layers, got {len(self.signs)}")

    def sign(self, layer: str) -> str:
        """What FEM does with that layer's activations below zero."""
        return self.signs[self.layers.index(layer)] if self.signs else "as_is"

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
