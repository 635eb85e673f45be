"""From one activation to one importance map: the Feature Explanation Method (FEM) and its stack over layers.

Every function takes ONE example (no batch axis); batch them with `jax.vmap`. Activations have their channels last.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, BFloat16, Bool, Float, Float32, Num

from mlfem_jax.upsampling import Grid, upsample

SIGNS = ("as_is", "relu", "two_sided")
"""What FEM does with activations below zero, see `fem`."""


def fem(
    activation: Num[Array, "*S C"],
    *,
    k: float | Float[Array, ""] = 2.0,
    sign: str = "as_is",
    weights: Float[Array, " _C"] | None = None,
) -> Float[Array, "*S"]:
    """The raw FEM map: how much the strongest activations of all channels coincide at each position.

    In channel i with mean mu_i and standard deviation sigma_i over all positions, the positions with
    f_i >= mu_i + k sigma_i are strong; the map is the sum over channels of mu_i where channel i is strong.

    The paper's features follow a ReLU. Where they do not (tokens of a transformer, the blocks of a ConvNeXt), half of
    the channels have a negative mean, and each of them votes against the positions where it is strong; `sign` says
    what to do about that.

    Args:
        activation: (*S, C), one, two or three spatial axes and then channels. Any real dtype; the statistics are
            float32 (float64 for float64).
        k: how many standard deviations above its mean makes an activation strong. The paper gives no value; 2 is that
            of every published FEM.
        sign: "as_is", the formula above; "relu", the formula on max(f_i, 0); "two_sided", strong is
            |f_i - mu_i| >= k sigma_i, and counts |mu_i|.
        weights: (C,) what each channel counts where it is strong, in place of mu_i (or |mu_i|), such as weights learned
            from gaze (`mlfem_jax.fusion.channel_maps`).

    Returns:
        (*S) float32, not normalized, of the scale of the activation; non-negative after a ReLU, and for every `sign`
        but "as_is". A constant channel is
        strong everywhere and adds its value everywhere (min-max takes that out again), so a single position gives the
        sum of its channels; all zeros give zeros. A channel that holds NaN or infinity has no strong positions and
        adds nothing.

    Raises:
        ValueError: the activation has not one to three spatial axes, or has an empty axis; an unknown sign; another
            number of weights than of channels; or `k` is NaN or infinite.

    Source:
        Bourroux et al., Multi-Layered Feature Explanation Method, section 2.1. The standard deviation is the
        population's (ddof 0), where the paper is silent. The other signs are ours.

    Example:
        >>> activation = jnp.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [8.0, 1.0]])
        >>> fem(activation, k=1.0)
        Array([1., 1., 1., 3.], dtype=float32)
    """
    if not 2 <= activation.ndim <= 4 or 0 in activation.shape:
        raise ValueError(
            f"activation: expected 1 to 3 spatial axes and a channel axis, none empty, got shape {activation.shape}"
        )
    if isinstance(k, int | float) and not math.isfinite(k):
        raise ValueError(f"k: expected a finite number, got {k}")
    if sign not in SIGNS:
        raise ValueError(f"sign: expected one of {', '.join(SIGNS)}, got {sign!r}")
    if weights is not None and weights.shape != activation.shape[-1:]:
        raise ValueError(f"weights: expected one for each of {activation.shape[-1]} channels, got {weights.shape}")
    if not jnp.issubdtype(activation.dtype, jnp.floating):
        activation = activation.astype(jnp.float32)
    if sign == "relu":  # minus infinity stays: a channel that is not finite adds nothing
        below = jnp.isfinite(activation) & (activation < 0)
        activation = jnp.where(below, jnp.zeros((), activation.dtype), activation)
    activation = _from_memory(activation)
    mean, deviation = _statistics(activation)
    activation, zero = activation.astype(mean.dtype), jnp.zeros((), mean.dtype)
    span = jnp.asarray(k, mean.dtype) * deviation
    strong = jnp.abs(activation - mean) >= span if sign == "two_sided" else activation >= mean + span
    counted = jnp.abs(mean) if sign == "two_sided" else mean
    if weights is not None:
        counted = weights.astype(mean.dtype).reshape(mean.shape)
    return jnp.where(strong, counted, zero).sum(axis=-1)


def _from_memory(activation: Float[Array, "*S C"]) -> Float[Array, "*S C"]:
    """The activation as the next layer reads it. Else a GPU computes a ReLU6 in float32, and writes that once more."""
    if activation.dtype != jnp.bfloat16:
        return activation
    written = jax.lax.optimization_barrier
    return jax.lax.platform_dependent(activation, cuda=written, rocm=written, default=lambda activation: activation)


def _statistics(activation: Float[Array, "*S C"]) -> tuple[Float[Array, "*one C"], Float[Array, "*one C"]]:
    """Mean and population standard deviation of each channel, in at least float32, spatial axes kept as ones.

    A constant channel comes out exactly constant. The moments of bfloat16 are plain ones, which a compiler computes
    where it makes the activation, without a look at memory: what float32 loses there, when a mean is large, is less
    than what bfloat16 has lost of the values. Other values are taken relative to the first position, so that a large
    mean cancels nothing.
    """
    space = tuple(range(activation.ndim - 1))
    if activation.dtype == jnp.bfloat16:
        return _bfloat16_statistics(activation, space)
    wide = jnp.promote_types(activation.dtype, jnp.float32)
    # Cut out before the cast: else the whole activation would be written once more, in float32.
    origin = activation[(slice(0, 1),) * len(space)].astype(wide)
    offset = activation.astype(wide) - origin
    mean = offset.mean(axis=space, keepdims=True)
    variance = jnp.maximum((offset * offset).mean(axis=space, keepdims=True) - mean * mean, 0.0)
    return mean + origin, jnp.sqrt(variance)


def _bfloat16_statistics(
    activation: BFloat16[Array, "*S C"], space: tuple[int, ...]
) -> tuple[Float32[Array, "*one C"], Float32[Array, "*one C"]]:
    """From the sums of the values and of their squares, and the largest, by which a constant channel is known."""
    count = math.prod(activation.shape[:-1])
    values = activation.astype(jnp.float32)
    total = values.sum(axis=space, keepdims=True)
    squares = (values * values).sum(axis=space, keepdims=True)
    mean = total / count
    variance = jnp.maximum(squares / count - mean * mean, 0.0)
    level = jax.lax.reduce_precision(mean, exponent_bits=8, mantissa_bits=7)
    # Up to 65536 equal values of 8 bits have an exact sum, and where none is larger than the mean, all are equal.
    constant = (total == count * level) & jnp.isfinite(total) & _is_largest(level, activation, space)
    return jnp.where(constant, level, mean), jnp.sqrt(jnp.where(constant, 0.0, variance))


def _is_largest(
    level: Float32[Array, "*one C"], activation: BFloat16[Array, "*S C"], space: tuple[int, ...]
) -> Bool[Array, "*one C"]:
    """Whether no value, or none by magnitude, is larger: what a compiler finds while it sums, without another look."""

    def of_values(level, activation):
        return activation.max(axis=space, keepdims=True).astype(jnp.float32) == level

    def of_squares(level, activation):
        values = activation.astype(jnp.float32)
        return (values * values).max(axis=space, keepdims=True) == level * level

    return jax.lax.platform_dependent(level, activation, cuda=of_values, rocm=of_values, default=of_squares)


def normalize(importance: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """The map scaled linearly so that its minimum is 0 and its maximum is 1.

    Args:
        importance: any shape and scale.

    Returns:
        Same shape and dtype, in [0, 1]. A constant map, and one that holds NaN or infinity, gives all zeros.

    Source:
        The paper, section 2.1; the blank result is ours, the formula is 0/0 there.

    Example:
        >>> normalize(jnp.array([2.0, 3.0, 6.0]))
        Array([0.  , 0.25, 1.  ], dtype=float32)
    """
    low, high = importance.min(), importance.max()
    span = high - low
    usable = jnp.isfinite(span) & (span > 0)
    return jnp.where(
        usable, (importance - low) / jnp.where(usable, span, jnp.ones_like(span)), jnp.zeros_like(importance)
    )


def importance_map(
    activation: Num[Array, "*S C"],
    shape: tuple[int, ...],
    *,
    k: float | Float[Array, ""] = 2.0,
    sign: str = "as_is",
    grid: Grid | None = None,
) -> Float[Array, "*T"]:
    """The FEM map of one layer at the resolution of the image, in [0, 1]: `fem`, `upsample`, then `normalize`.

    Args:
        activation: (*S, C), see `fem`.
        shape: size of the image, one number for each spatial axis.
        k: see `fem`.
        sign: see `fem`.
        grid: see `upsample`.

    Returns:
        `shape` float32 in [0, 1]; all zeros where the layer's map is constant.

    Raises:
        ValueError: as `fem` and `upsample`.

    Source:
        The paper, section 2.1, in its order: min-max comes after the interpolation.

    Example:
        >>> activation = jnp.array([[0.0], [0.0], [0.0], [8.0]])
        >>> importance_map(activation, (4,), k=1.0)
        Array([0., 0., 0., 1.], dtype=float32)
    """
    return normalize(upsample(fem(activation, k=k, sign=sign), shape, grid=grid))


def layer_maps(
    activations: Mapping[str, Num[Array, "..."]],
    shape: tuple[int, ...],
    *,
    k: float | Float[Array, ""] = 2.0,
    sign: str | Sequence[str] = "as_is",
    grids: Sequence[Grid | None] = (),
) -> Float[Array, " L *T"]:
    """The importance maps of several layers as one stack, which `fuse` turns into one map.

    Args:
        activations: layer name to activation (*S, C), first layer first. Give an `OrderedDict` under `jax.jit` or
            `jax.vmap`: JAX sorts the keys of a plain dict there.
        shape: size of the image.
        k: see `fem`.
        sign: see `fem`; one for all layers, or one for each.
        grids: see `upsample`, one for each layer; none: all cover the input evenly.

    Returns:
        (L, *shape) float32, each map in [0, 1], in the order of `activations`.

    Raises:
        ValueError: `activations` is empty; another number of signs, or grids, than of layers; as `fem` and `upsample`.

    Source:
        The paper, section 2.2.

    Example:
        >>> first, last = jnp.array([[8.0], [0.0]]), jnp.array([[3.0]])
        >>> layer_maps({"first": first, "last": last}, (2,), k=1.0)
        Array([[1., 0.],
               [0., 0.]], dtype=float32)
    """
    if not activations:
        raise ValueError("activations: expected at least one layer, got an empty dict")
    signs = [sign] * len(activations) if isinstance(sign, str) else list(sign)
    if len(signs) != len(activations):
        raise ValueError(f"sign: expected one, or one for each of {len(activations)} layers, got {len(signs)}")
    if grids and len(grids) != len(activations):
        raise ValueError(f"grids: expected one for each of {len(activations)} layers, got {len(grids)}")
    triples = zip(activations.values(), signs, grids or [None] * len(signs), strict=True)
    return jnp.stack([importance_map(one, shape, k=k, sign=sign, grid=grid) for one, sign, grid in triples])
