"""Transformers: what their attention says.

A is the attention of one image, (L, h, T, T): in block l, head h, how much token i (the row) takes from token j. A map
is a row over the patches: that of the class token, which the head reads; where there is none, the mean of the
patches' rows. The columns of the tokens before the patches are dropped.
"""

from collections import OrderedDict
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, to_maps
from mlfem_jax.attribution.target import class_score
from mlfem_jax.backbones import Forward
from mlfem_jax.fusion import fuse as fuse_maps
from mlfem_jax.importance import importance_map

Attentions = Float[Array, "L h T T"]
Row = Float[Array, " T"]
Patches = Float[Array, " P"]
_HEADS: dict[str, Callable[..., Array]] = {"mean": jnp.mean, "max": jnp.max, "min": jnp.min}


def layer_attentions(forward: Forward, layers: tuple[str, ...] | None = None) -> OrderedDict[str, Array]:
    """The softmaxes (N, heads, T, T) of the layers, float32; in a compiled batch they cost no second forward pass.

    Raises:
        ValueError: the network has no attention.
    """
    names = _names(forward, layers)
    heard: dict[str, Array] = {}

    def tap(name: str, value: Array) -> Array:
        heard[name] = value
        return value

    forward.run(forward.inputs, tap=tap)
    return OrderedDict((layer, heard[name].astype(jnp.float32)) for layer, name in names.items())


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
    names = _names(forward, layers)

    def total(offsets):
        def tap(name: str, value: Array) -> Array:
            return value + offsets[name].astype(value.dtype) if name in offsets else value

        return class_score(forward.run(forward.inputs, tap=tap, depth=depth), forward.classes, score).sum()

    shapes = jax.eval_shape(lambda: layer_attentions(forward, layers))
    offsets = {names[layer]: jnp.zeros(shape.shape, jnp.float32) for layer, shape in shapes.items()}
    gradients = jax.grad(total)(offsets)
    return OrderedDict((layer, gradients[name]) for layer, name in names.items())


def _names(forward: Forward, layers: tuple[str, ...] | None) -> dict[str, str]:
    backbone = forward.backbone
    if not backbone.attentions:
        raise ValueError(
            f"backbone: expected a network with attention, such as dinov2_vits14, got {backbone.name!r}, which has "
            "none. FEM, MLFEM, class activation maps and perturbations work on any network"
        )
    names = dict(zip(backbone.layers, backbone.attentions, strict=True))
    return {layer: names[layer] for layer in layers or names}


def rollout(attentions: Attentions, row: Row, *, heads: str = "mean", discard: float = 0.0) -> Row:
    """What the tokens of `row` are made of, block by block back to the first: row B_L ... B_2 B_1.

    B is (A + I) / 2 with the heads' A taken together, each row scaled to sum to 1.

    Args:
        attentions: of one image.
        row: weights of the last block's tokens.
        heads: "mean", "max" or "min" over the heads.
        discard: the share of each block's entries, the smallest, that count as 0.

    Source:
        Abnar and Zuidema, Quantifying Attention Flow in Transformers (2020), equation 1. Leaving out the smallest
        entries, and other heads than their mean: common practice since.
    """
    if heads not in _HEADS:
        raise ValueError(f"heads: expected one of {', '.join(_HEADS)}, got {heads!r}")
    if not 0 <= discard < 1:
        raise ValueError(f"discard: expected a share from 0 to below 1, got {discard}")
    for block in attentions[::-1]:
        joint = _HEADS[heads](block, axis=0)
        smallest = int(joint.size * discard)
        if smallest:
            joint = jnp.where(joint >= jnp.sort(joint, axis=None)[smallest], joint, 0.0)
        row = row @ _with_residual(joint)
    return row


def _with_residual(attention: Float[Array, "*h T T"]) -> Float[Array, "*h T T"]:
    """A + I, each row scaled to sum to 1."""
    both = attention + jnp.broadcast_to(jnp.eye(attention.shape[-1], dtype=attention.dtype), attention.shape)
    return both / both.sum(axis=-1, keepdims=True)


def rfem(attentions: Attentions, row: Row, prefix: int, *, k: float = 1.0, sinks: float | None = None) -> Patches:
    """FEM on the heads: each head is rolled out by itself and filtered by its mean and deviation over the patches.

    Head by head, r = row B_L ... B_1 with B = A + I, each row scaled to sum to 1. The patches with r >= mean + k
    deviations are strong, and the map is the sum over heads of max(r) where the head is strong.

    Args:
        attentions: of one image.
        row: weights of the last block's tokens.
        prefix: how many tokens stand before the patches.
        k: standard deviations above the mean that make a patch strong; the paper finds 0.5 to 1 best.
        sinks: patches that get more attention than this many deviations above the patches' mean, over all blocks,
            heads and tokens, are attention sinks: nothing is taken from them. None: there are none.

    Returns:
        (T - prefix) of the patches.

    Source:
        Ayyar, Benois-Pineau and Zemmari, There is More to Attention (2025), arXiv 2510.06070, RFEM: rollout by head,
        k-sigma filter, weight of a head by its maximum. Written from its summaries: the equations were not at hand, so
        details (scaling of the rows) may differ. `sinks` is ours.
    """
    if sinks is not None:
        attentions = _without_sinks(attentions, prefix, sinks)
    rows = jnp.broadcast_to(row, (attentions.shape[1], 1, row.size))
    for block in attentions[::-1]:
        rows = rows @ _with_residual(block)
    patches = rows[:, 0, prefix:]
    mean, deviation = patches.mean(axis=1, keepdims=True), patches.std(axis=1, keepdims=True)
    return jnp.where(patches >= mean + k * deviation, patches.max(axis=1, keepdims=True), 0.0).sum(axis=0)


def _without_sinks(attentions: Attentions, prefix: int, sinks: float) -> Attentions:
    received = attentions.mean(axis=(0, 1, 2))
    patches = received[prefix:]
    sink = (received > patches.mean() + sinks * patches.std()) & (jnp.arange(received.size) >= prefix)
    return jnp.where(sink[None, None, None], 0.0, attentions)


def chefer(attentions: Attentions, gradients: Attentions, row: Row) -> Row:
    """What the tokens of `row` owe to each token where that speaks for the class: row (I + C_L) ... (I + C_1).

    C is the mean over the heads of max(A * G, 0), G being the gradient of the class score.

    Source:
        Chefer, Gur and Wolf, Generic Attention-model Explainability (2021), equations 5 and 6.
    """
    for attention, gradient in zip(attentions[::-1], gradients[::-1], strict=True):
        row = row + row @ jnp.maximum(attention * gradient, 0.0).mean(axis=0)
    return row


def legrad(gradients: Attentions) -> Row:
    """How much the class of each block's tokens would grow with the attention to each token: sum over the blocks.

    Of block l it is the mean over heads and rows of max(G_l, 0), where G_l is the gradient with respect to A_l of the
    class score that the head reads off the tokens behind block l.

    Source:
        Bousselham et al., LeGrad (2024), arXiv 2404.03214, section 3. There too, min-max comes after the sum. What the
        head pools is the network's own choice here.
    """
    return jnp.maximum(gradients, 0.0).mean(axis=(1, 2)).sum(axis=0)


def attention_maps(
    forward: Forward,
    *,
    layers: tuple[str, ...] | None = None,
    heads: str = "mean",
    fuse: str = "add",
    k: float | None = None,
    alpha: float = 0.7,
    normalize: str = "end",
) -> Float[Array, "N H W"]:
    """MLFEM over attention: the class token's row of every block as its feature map, fused as MLFEM's are.

    Args:
        forward: the batch.
        layers: blocks; None is all of them.
        heads: "mean": the mean of the heads is the block's map; "channels": the heads are the channels of FEM.
        fuse: operator, see `mlfem_jax.fuse`.
        k: see `mlfem_jax.fem`. None: without FEM's threshold, the attention itself (the mean of the heads).
        alpha: see `mlfem_jax.fuse`.
        normalize: see `mlfem_jax.fuse`.
    """
    if heads not in ("mean", "channels"):
        raise ValueError(f"heads: expected 'mean' or 'channels', got {heads!r}")

    def features(softmax):
        row = _row(forward, softmax.shape[-1])
        grid = jnp.einsum("q,nhqt->nth", row, softmax)[:, forward.backbone.prefix :]
        grid = grid.reshape(len(softmax), *_grid(forward), -1)
        return grid if heads == "channels" and k is not None else grid.mean(axis=-1, keepdims=True)

    def fused(example):
        maps = [one(activation) for activation in example]
        return fuse_maps(maps, operator=fuse, alpha=alpha, normalize=normalize)

    def one(activation):
        return to_maps(activation[None, ..., 0], size)[0] if k is None else importance_map(activation, size, k=k)

    size = forward.size
    return jax.vmap(fused)([features(softmax) for softmax in layer_attentions(forward, layers).values()])


def rollout_maps(
    forward: Forward, *, layers: tuple[str, ...] | None = None, heads: str = "mean", discard: float = 0.0
) -> Float[Array, "N H W"]:
    """`rollout` of each image; it looks at no class."""
    attentions = _stacked(layer_attentions(forward, layers))
    row = _row(forward, attentions.shape[-1])
    return _maps(forward, jax.vmap(lambda one: rollout(one, row, heads=heads, discard=discard))(attentions))


def rfem_maps(
    forward: Forward, *, layers: tuple[str, ...] | None = None, k: float = 1.0, sinks: float | None = None
) -> Float[Array, "N H W"]:
    """`rfem` of each image; it looks at no class."""
    attentions = _stacked(layer_attentions(forward, layers))
    row, prefix = _row(forward, attentions.shape[-1]), forward.backbone.prefix
    raw = jax.vmap(lambda one: rfem(one, row, prefix, k=k, sinks=sinks))(attentions)
    return to_maps(raw.reshape(len(raw), *_grid(forward)), forward.size)


def chefer_maps(
    forward: Forward, *, layers: tuple[str, ...] | None = None, score: str = "logit"
) -> Float[Array, "N H W"]:
    """`chefer` of each image."""
    attentions = _stacked(layer_attentions(forward, layers))
    gradients = _stacked(attention_gradients(forward, layers, score=score))
    row = _row(forward, attentions.shape[-1])
    return _maps(forward, jax.vmap(lambda one, gradient: chefer(one, gradient, row))(attentions, gradients))


def legrad_maps(
    forward: Forward, *, layers: tuple[str, ...] | None = None, score: str = "logit"
) -> Float[Array, "N H W"]:
    """`legrad` of each image: one backward pass for each block."""
    names = forward.backbone.layers
    gradients: OrderedDict[str, Array] = OrderedDict()
    for layer in _names(forward, layers):
        gradients |= attention_gradients(forward, (layer,), score=score, depth=names.index(layer) + 1)
    return _maps(forward, jax.vmap(legrad)(_stacked(gradients)))


def _stacked(attentions: OrderedDict[str, Array]) -> Float[Array, "N L h T T"]:
    return jnp.stack(list(attentions.values()), axis=1)


def _row(forward: Forward, tokens: int) -> Row:
    """The class token's row; the mean of all where there is none."""
    row = np.eye(1, tokens)[0] if forward.backbone.prefix else np.full(tokens, 1 / tokens)
    return jnp.asarray(row, jnp.float32)


def _grid(forward: Forward) -> tuple[int, int]:
    height, width = next(iter(forward.activations.values())).shape[1:3]
    return height, width


def _maps(forward: Forward, rows: Float[Array, "N T"]) -> Float[Array, "N H W"]:
    patches = rows[:, forward.backbone.prefix :]
    return to_maps(patches.reshape(len(rows), *_grid(forward)), forward.size)


METHODS = {
    "attention": Entry(attention_maps, "activations", "MLFEM over the class token's attention"),
    "rollout": Entry(rollout_maps, "activations", "attention rollout: the blocks' attention multiplied"),
    "rfem": Entry(rfem_maps, "activations", "RFEM: every head rolled out, and filtered as FEM does"),
    "chefer": Entry(chefer_maps, "gradient", "attention times its gradient, through all blocks", of_class=True),
    "legrad": Entry(legrad_maps, "gradient", "LeGrad: the gradient at every block's attention", of_class=True),
}
