"""What the attention of a transformer says: its softmaxes, and each block's as a layer whose channels are the heads."""

from collections import OrderedDict
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlfem_jax.backbones.base import Activations, Backbone
from mlfem_jax.backbones.forward import Forward


def attention_names(backbone: Backbone, layers: Sequence[str] | None = None) -> dict[str, str]:
    """Layer to the name of its attention, as `tap` hears it; None is all layers.

    Raises:
        ValueError: the network has no attention.
    """
    if not backbone.attentions:
        raise ValueError(
            f"backbone: expected a network with attention, such as dinov2_vits14, got {backbone.name!r}, which has "
            "none. FEM, MLFEM, class activation maps and perturbations work on any network"
        )
    names = dict(zip(backbone.layers, backbone.attentions, strict=True))
    return {layer: names[layer] for layer in layers or names}


def layer_attentions(forward: Forward, layers: Sequence[str] | None = None) -> OrderedDict[str, Array]:
    """The softmaxes (N, heads, T, T) of the layers, float32; in a compiled batch they cost no second forward pass.

    Raises:
        ValueError: the network has no attention.
    """
    names = attention_names(forward.backbone, layers)
    heard: dict[str, Array] = {}

    def tap(name: str, value: Array) -> Array:
        heard[name] = value
        return value

    forward.run(forward.inputs, tap=tap)
    return OrderedDict((layer, heard[name].astype(jnp.float32)) for layer, name in names.items())


def class_row(backbone: Backbone, tokens: int) -> Float[Array, " T"]:
    """Whose attention a map is: 1 for the class token; the same for all tokens where there is none."""
    row = np.eye(1, tokens)[0] if backbone.prefix else np.full(tokens, 1 / tokens)
    return jnp.asarray(row, jnp.float32)


def attention_grids(forward: Forward, layers: Sequence[str] | None = None) -> OrderedDict[str, Array]:
    """What each head of the layers reads of each patch for the class: (N, h, w, heads), float32, not negative.

    It is the class token's row of the softmax, or the mean of all rows where there is no class token; the columns of
    the tokens before the patches are dropped.

    Raises:
        ValueError: the network has no attention.
    """
    backbone = forward.backbone

    def grid(layer: str, softmax: Array) -> Array:
        row = class_row(backbone, softmax.shape[-1])
        patches = jnp.einsum("q,nhqt->nth", row, softmax)[:, backbone.prefix :]
        return patches.reshape(*forward.activations[layer].shape[:-1], softmax.shape[1])

    return OrderedDict((layer, grid(layer, softmax)) for layer, softmax in layer_attentions(forward, layers).items())


def read_layers(forward: Forward, names: Sequence[str]) -> Activations:
    """The activations by those names, where the name of an attention gives its heads as channels.

    Args:
        forward: the batch.
        names: some of `Backbone.layers` and `Backbone.attentions`.

    Returns:
        By name, in the order of `names`; an attention as `attention_grids` has it.
    """
    layer_of = dict(zip(forward.backbone.attentions, forward.backbone.layers, strict=False))
    heard = [layer_of[name] for name in names if name in layer_of]
    grids = attention_grids(forward, heard) if heard else {}
    return OrderedDict(
        (name, grids[layer_of[name]] if name in layer_of else forward.activations[name]) for name in names
    )
