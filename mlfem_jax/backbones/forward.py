"""One forward pass over a batch, as every method sees it, and the choice of layers."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mlfem_jax.backbones.base import Activations, Backbone
from mlfem_jax.backbones.target import LogitFunction

Layers = str | int | slice | Sequence[str | int] | None
"""Which layers: names, indices or a slice; None is the method's default."""


@dataclasses.dataclass(frozen=True)
class Forward:
    """One forward pass over a batch: all that a method may use, computed once whatever the number of methods.

    Attributes:
        backbone: the network, with its parameters.
        inputs: (N, H, W, 3) preprocessed images, in the forward's dtype; of other data (N, *S, C), with one to three
            spatial axes S.
        logits: (N, classes).
        activations: ordered dict of (N, h, w, C), or (N, *s, C), first layer first.
        targets: (N, K) classes to explain, K of them for each image; or a function of the logits; None is the
            predicted class, or, of a network that tells no classes, the image's own embedding.
        platform: of the devices that compute it, such as "cpu"; None is JAX's default.
    """

    backbone: Backbone
    inputs: Float[Array, " N *S C"]
    logits: Float[Array, "N classes"]
    activations: Activations
    targets: Int[Array, "N K"] | LogitFunction | None = None
    platform: str | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """(height, width) in pixels of the network's input; of other data the length of each spatial axis."""
        return self.inputs.shape[1:-1]

    @property
    def photo_size(self) -> tuple[int, int]:
        """(height, width) in pixels of photographs; a ValueError for other data, see `Backbone.photo_size`."""
        _ = self.backbone.photo_size
        return self.inputs.shape[1], self.inputs.shape[2]

    @property
    def classes(self) -> Int[Array, "N K"] | Float[Array, "N D"] | LogitFunction:
        """The classes to explain, predicted where none were given; the direction of each embedding; or a function."""
        if isinstance(self.targets, LogitFunction):
            return self.targets
        if self.backbone.embeds:
            embedding = jax.lax.stop_gradient(self.logits.astype(jnp.float32))
            return embedding / jnp.maximum(jnp.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
        return self.logits.argmax(axis=1)[:, None] if self.targets is None else self.targets

    def run(self, inputs: Float[Array, " N *S C"], **hooks: Any) -> Float[Array, "N classes"]:
        """Logits of other inputs; `hooks` are the backbone's `tap` and `rules`."""
        return self.backbone.apply(self.backbone.params, inputs.astype(self.inputs.dtype), **hooks)[0]


def forward_pass(
    backbone: Backbone,
    images: Array | np.ndarray,
    targets: Int[Array, "N K"] | LogitFunction | None = None,
    *,
    dtype: DTypeLike | None = None,
    platform: str | None = None,
) -> Forward:
    """One forward pass over images: what every method, score and fusion is computed from.

    Args:
        backbone: the network.
        images: (N, H, W, 3), uint8 or float in [0, 1]; of other data (N, *S, C), such as it is.
        targets: (N, K) classes to explain, or a function of the logits; None is the predicted class.
        dtype: of the inputs, and so of the forward; None is that of the parameters.
        platform: see `Forward`.

    Returns:
        Inputs, logits and activations of the batch.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(4, 4))
        >>> forward_pass(backbone, np.zeros((2, 4, 4, 3), np.uint8)).classes.shape
        (2, 1)
    """
    inputs = backbone.preprocess(jnp.asarray(images)).astype(_parameters_dtype(backbone) if dtype is None else dtype)
    logits, activations = backbone.apply(backbone.params, inputs)
    return Forward(backbone, inputs, logits, activations, targets, platform)


def _parameters_dtype(backbone: Backbone) -> DTypeLike:
    """float32 where there are no floats among them."""
    dtypes = (leaf.dtype for leaf in jax.tree.leaves(backbone.params))
    return next((dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)), jnp.float32)


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
        raise ValueError(f"layers: expected some of {', '.join(names)}, got {layers!r}, which chooses none")
    return tuple(name for name in names if name in chosen)


def _layer_name(names: Sequence[str], layer: str | int) -> str:
    if isinstance(layer, int) and -len(names) <= layer < len(names):
        return names[layer]
    if layer in names:
        return str(layer)
    raise ValueError(f"layers: expected some of the {len(names)} layers {', '.join(names)}, got {layer!r}")
