"""Transformers: what their attention says.

A map is a row of the attention over the patches: that of the class token, which the head reads; where there is none,
the mean of the patches' rows. The columns of the tokens before the patches are dropped.
"""

from collections import OrderedDict

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, to_maps
from mlfem_jax.attribution.rows import chefer, legrad, rfem, rollout
from mlfem_jax.attribution.target import class_score
from mlfem_jax.backbones import Forward, attention_grids, attention_names, class_row, layer_attentions
from mlfem_jax.fusion import fuse as fuse_maps
from mlfem_jax.importance import importance_map
from mlfem_jax.upsampling import Grid


def attention_gradients(
    forward: Forward, layers: tuple[str, ...] | None = None, *, score: str = "logit", depth: int | None = None
) -> OrderedDict[str, Array]:
    """The gradient of the class score with respect to the softmaxes of the layers, float32.

    Args:
        forward: the batch.
        layers: names; None is all of them.
        score: see `target.class_score`.
        depth: after how many blocks the head reads the class; None is all.
    """
    names = attention_names(forward.backbone, layers)

    def total(offsets):
        def tap(name: str, value: Array) -> Array:
            return value + offsets[name].astype(value.dtype) if name in offsets else value

        return class_score(forward.run(forward.inputs, tap=tap, depth=depth), forward.classes, score).sum()

    shapes = jax.eval_shape(lambda: layer_attentions(forward, layers))
    offsets = {names[layer]: jnp.zeros(shape.shape, jnp.float32) for layer, shape in shapes.items()}
    gradients = jax.grad(total)(offsets)
    return OrderedDict((layer, gradients[name]) for layer, name in names.items())


def attention_maps(
    forward: Forward,
    *,
    layers: tuple[str, ...] | None = None,
    heads: str = "mean",
    fuse: str = "add",
    k: float | None = None,
    alpha: float = 0.6,
    normalize: str = "end",
) -> Float[Array, " N *S"]:
    """MLFEM over attention: the class token's row of every block as its feature map, fused as MLFEM's are.

    Args:
        forward: the batch.
        layers: blocks; None is all of them.
        heads: "mean": the mean of the heads is the block's map; "channels": the heads are the channels of FEM.
        fuse: operator, see `mlfem_jax.fuse`.
        k: see `mlfem_jax.fem`. None: without FEM's threshold, the attention itself (the mean of the heads).
        alpha: see `mlfem_jax.fuse`; the default is the best of eight on training images of OSIE, through DINOv2.
        normalize: see `mlfem_jax.fuse`.
    """
    if heads not in ("mean", "channels"):
        raise ValueError(f"heads: expected 'mean' or 'channels', got {heads!r}")

    def features(rows):
        return rows if heads == "channels" and k is not None else rows.mean(axis=-1, keepdims=True)

    def fused(example):
        maps = [one(activation) for activation in example]
        return fuse_maps(maps, operator=fuse, alpha=alpha, normalize=normalize)

    def one(activation):
        if k is None:
            return to_maps(activation[None, ..., 0], size, grid)[0]
        return importance_map(activation, size, k=k, grid=grid)

    size, grid = forward.size, _patch_grid(forward)
    return jax.vmap(fused)([features(rows) for rows in attention_grids(forward, layers).values()])


def rollout_maps(
    forward: Forward, *, layers: tuple[str, ...] | None = None, heads: str = "mean", discard: float = 0.0
) -> Float[Array, " N *S"]:
    """`rollout` of each image; it looks at no class."""
    attentions = _stacked(layer_attentions(forward, layers))
    row = class_row(forward.backbone, attentions.shape[-1])
    return _maps(forward, jax.vmap(lambda one: rollout(one, row, heads=heads, discard=discard))(attentions))


def rfem_maps(
    forward: Forward, *, layers: tuple[str, ...] | None = None, k: float = 1.0, sinks: float | None = None
) -> Float[Array, " N *S"]:
    """`rfem` of each image; it looks at no class."""
    attentions = _stacked(layer_attentions(forward, layers))
    row, prefix = class_row(forward.backbone, attentions.shape[-1]), forward.backbone.prefix
    raw = jax.vmap(lambda one: rfem(one, row, prefix, k=k, sinks=sinks))(attentions)
    return _placed(forward, raw)


def chefer_maps(
    forward: Forward, *, layers: tuple[str, ...] | None = None, score: str = "logit"
) -> Float[Array, " N *S"]:
    """`chefer` of each image."""
    attentions = _stacked(layer_attentions(forward, layers))
    gradients = _stacked(attention_gradients(forward, layers, score=score))
    row = class_row(forward.backbone, attentions.shape[-1])
    return _maps(forward, jax.vmap(lambda one, gradient: chefer(one, gradient, row))(attentions, gradients))


def legrad_maps(
    forward: Forward, *, layers: tuple[str, ...] | None = None, score: str = "logit"
) -> Float[Array, " N *S"]:
    """`legrad` of each image: one backward pass for each block."""
    names = forward.backbone.layers
    gradients: OrderedDict[str, Array] = OrderedDict()
    for layer in attention_names(forward.backbone, layers):
        gradients |= attention_gradients(forward, (layer,), score=score, depth=names.index(layer) + 1)
    return _maps(forward, jax.vmap(legrad)(_stacked(gradients)))


def _stacked(attentions: OrderedDict[str, Array]) -> Float[Array, "N L h T T"]:
    return jnp.stack(list(attentions.values()), axis=1)


def _grid(forward: Forward) -> tuple[int, ...]:
    return next(iter(forward.activations.values())).shape[1:-1]


def _maps(forward: Forward, rows: Float[Array, "N T"]) -> Float[Array, " N *S"]:
    return _placed(forward, rows[:, forward.backbone.prefix :])


def _placed(forward: Forward, patches: Float[Array, "N t"]) -> Float[Array, " N *S"]:
    """A number for each patch as the map of the image."""
    return to_maps(patches.reshape(len(patches), *_grid(forward)), forward.size, _patch_grid(forward))


def _patch_grid(forward: Forward) -> Grid | None:
    """Where the patches lie in the image, those of all blocks."""
    return forward.backbone.grid(forward.backbone.layers[0])


METHODS = {
    "attention": Entry(attention_maps, "activations", "MLFEM over the class token's attention"),
    "rollout": Entry(rollout_maps, "activations", "attention rollout: the blocks' attention multiplied"),
    "rfem": Entry(rfem_maps, "activations", "RFEM: every head rolled out, and filtered as FEM does"),
    "chefer": Entry(chefer_maps, "gradient", "attention times its gradient, through all blocks", of_class=True),
    "legrad": Entry(legrad_maps, "gradient", "LeGrad: the gradient at every block's attention", of_class=True),
}
