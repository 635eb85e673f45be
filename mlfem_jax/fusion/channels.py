"""FEM with learned channel weights: the formula of FEM, where each channel counts a number that was learned.

Every function takes ONE example (no batch axis); batch them with `jax.vmap`. Activations have their channels last.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num, UInt8

# The default precision of accelerators (TF32, bfloat16) is wrong in the third digit.
_EXACT = jax.lax.Precision.HIGHEST
_FLOOR = 1e-3  # of the layer's mean deviation: what varies less is rounding, and differs from device to device


def strong_positions(activation: Num[Array, "*S C"], ks: Sequence[float]) -> Bool[Array, "K *S C"]:
    """Where each channel is strong, b_c = [f_c >= mu_c + k sigma_c], for each k: what the weights are trained on.

    Args:
        activation: (*S, C), see `mlfem_jax.fem`.
        ks: values of k.

    Returns:
        (K, *S, C). A channel that does not vary, or hardly (by less than a thousandth of the layer's mean standard
        deviation), or that is not finite, is strong nowhere. FEM lets a constant channel count everywhere, which its
        min-max takes out again; a fusion of several maps has no min-max.

    Example:
        >>> strong_positions(jnp.array([[0.0, 1.0], [0.0, 1.0], [8.0, 1.0]]), (1.0,)).astype(int).tolist()
        [[[0, 0], [0, 0], [1, 0]]]
    """
    activation = activation.astype(jnp.float32)
    return jnp.moveaxis(_strong(activation, _thresholds(activation, ks)), -2, 0)


def channel_maps(
    activation: Num[Array, "*S C"], weights: Float[Array, "_K _m _C"], *, ks: Sequence[float]
) -> Float[Array, " Km *S"]:
    """The reweighted FEM maps of one layer: s_km = sum over channels of w_kmc [f_c >= mu_c + k sigma_c].

    It is `fem(activation, k=k, weights=w)` for every k and each of its m weight vectors, from one read of the
    activation behind the statistics. Nothing of the activation's size is written.

    Args:
        activation: (*S, C), see `mlfem_jax.fem`.
        weights: (K, m, C), m weight vectors for each k.
        ks: K values of k.

    Returns:
        (K * m, *S) float32, k by k, not normalized; not negative where no weight is. Channels that hardly vary count
        nowhere, see `strong_positions`; all zeros give zeros.

    Raises:
        ValueError: the weights are not of K values of k and C channels.

    Source:
        Bourroux et al., Multi-Layered Feature Explanation Method, section 2.1, whose weights are w = mu.

    Example:
        >>> activation = jnp.array([[0.0, 1.0], [0.0, 3.0], [8.0, 1.0]])
        >>> channel_maps(activation, jnp.array([[[2.0, 0.5]]]), ks=(1.0,))
        Array([[0. , 0.5, 2. ]], dtype=float32)
    """
    count, _, depth = weights.shape
    if count != len(ks) or activation.shape[-1:] != (depth,):
        raise ValueError(
            f"weights: expected ({len(ks)}, m, {activation.shape[-1]}) for that many k and channels, "
            f"got {weights.shape}"
        )
    activation = activation.astype(jnp.float32)
    # XLA's CPU would write all strong positions in float32, K times the activation, before it multiplies.
    maps = jax.lax.platform_dependent(
        activation, _thresholds(activation, ks), weights, cpu=_weighed_by_row, default=_weighed
    )
    return jnp.moveaxis(maps, -1, 0)


def packed_maps(packed: UInt8[Array, "K *S B"], weights: Float[Array, "K m C"]) -> Float[Array, " Km *S"]:
    """`channel_maps` of strong positions that were found before and packed, with a gradient to the weights.

    Bit by bit: the eight channels of a byte are eight products of matrices, and no position is ever unpacked in place.

    Args:
        packed: (K, *S, B) from `strong_positions` and `pack`.
        weights: (K, m, C).
    """
    count, vectors, depth = weights.shape
    filled = jnp.pad(weights, ((0, 0), (0, 0), (0, 8 * packed.shape[-1] - depth)))
    planes = filled.reshape(count, vectors, packed.shape[-1], 8)

    def of_k(packed: Array, planes: Array) -> Array:
        flat = packed.reshape(-1, packed.shape[-1])
        bits = [((flat >> np.uint8(7 - bit)) & np.uint8(1)).astype(jnp.float32) for bit in range(8)]
        products = [jnp.matmul(strong, planes[..., bit].T, precision=_EXACT) for bit, strong in enumerate(bits)]
        return functools.reduce(jnp.add, products)

    maps = [of_k(packed[index], planes[index]).T.reshape(vectors, *packed.shape[1:-1]) for index in range(count)]
    return jnp.concatenate(maps)


def contributions(
    activation: Num[Array, "*S C"], weights: Float[Array, "K m C"], *, ks: Sequence[float]
) -> Float[Array, " C *S"]:
    """What each channel adds to the layer's map: w_c b_c, summed over k and the weight vectors.

    Args:
        activation: (*S, C), see `channel_maps`.
        weights: (K, m, C), see `channel_maps`.
        ks: values of k.

    Returns:
        (C, *S) float32; the sum over channels is the sum over `channel_maps`.

    Example:
        >>> activation = jnp.array([[0.0, 1.0], [0.0, 3.0], [8.0, 1.0]])
        >>> contributions(activation, jnp.array([[[2.0, 0.5]]]), ks=(1.0,))
        Array([[0. , 0. , 2. ],
               [0. , 0.5, 0. ]], dtype=float32)
    """
    strong = strong_positions(activation, ks)
    return jnp.einsum("k...c,kc->c...", strong.astype(jnp.float32), weights.sum(axis=1))


def pack(strong: Bool[Array, "*S C"]) -> UInt8[Array, "*S B"]:
    """Eight channels to a byte, the last byte filled up with zeros: what is kept on disk."""
    return jnp.packbits(strong, axis=-1)


def _thresholds(activation: Float[Array, "*S C"], ks: Sequence[float]) -> Float[Array, "K C"]:
    """Mu + k sigma of each channel; infinity where it hardly varies."""
    space = tuple(range(activation.ndim - 1))
    # Not relative to the first position, as FEM's own: what hardly varies is left out, and a CPU writes nothing for it.
    mean, deviation = activation.mean(axis=space), activation.std(axis=space)
    finite = jnp.isfinite(deviation)
    typical = jnp.sum(jnp.where(finite, deviation, 0.0)) / jnp.maximum(finite.sum(), 1).astype(jnp.float32)
    varies = finite & (deviation > _FLOOR * typical)
    return jnp.stack([jnp.where(varies, mean + jnp.float32(k) * deviation, jnp.inf) for k in ks])


def _strong(activation: Float[Array, "*S C"], thresholds: Float[Array, "K C"]) -> Bool[Array, "*S K C"]:
    alone = thresholds.reshape((1,) * (activation.ndim - 1) + thresholds.shape)
    return activation[..., None, :] >= alone


def _weighed(
    activation: Float[Array, "*S C"], thresholds: Float[Array, "K C"], weights: Float[Array, "K m C"]
) -> Float[Array, "*S Km"]:
    strong = _strong(activation, thresholds).astype(jnp.float32)
    maps = jnp.einsum("...kc,kmc->...km", strong, weights, precision=_EXACT)
    return maps.reshape(*activation.shape[:-1], -1)


def _weighed_by_row(
    activation: Float[Array, "*S C"], thresholds: Float[Array, "K C"], weights: Float[Array, "K m C"]
) -> Float[Array, "*S Km"]:
    def row(index, maps):
        values = jax.lax.dynamic_index_in_dim(activation, index, keepdims=False)
        return jax.lax.dynamic_update_index_in_dim(maps, _weighed(values, thresholds, weights), index, 0)

    blank = jnp.zeros((*activation.shape[:-1], weights.shape[0] * weights.shape[1]), jnp.float32)
    return jax.lax.fori_loop(0, len(activation), row, blank)
