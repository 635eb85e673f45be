"""What the rows of a transformer's attention say of one image: pure formulas.

A is the attention, (L, h, T, T): in block l, head h, how much token i (the row) takes from token j.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Attentions = Float[Array, "L h T T"]
Row = Float[Array, " T"]
Patches = Float[Array, " P"]
_HEADS: dict[str, Callable[..., Array]] = {"mean": jnp.mean, "max": jnp.max, "min": jnp.min}


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
