"""Batch norm, for the networks in their training form: float32 statistics, as PyTorch keeps them."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Norm:
    """The batch norm behind the convolutions of a network.

    Attributes:
        epsilon: added to the variance.
        momentum: weight of a batch in the running statistics, in PyTorch's sense; 0.1 is PyTorch's default.
        running: normalize by the running statistics and leave them as they are, as in inference and in a frozen
            network; else by the batch's, and move the running ones towards them.
    """

    epsilon: float = 1e-5
    momentum: float = 0.1
    running: bool = False


TORCH_NORM = Norm()
"""torch.nn.BatchNorm2d as it is by default."""


def normalize_features(
    features: Float[Array, "N h w C"],
    mean: Float[Array, " C"],
    variance: Float[Array, " C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    *,
    epsilon: float,
) -> Float[Array, "N h w C"]:
    """Features less their mean, over the root of variance + epsilon, times scale, plus bias.

    Computed in float32, and returned in the dtype of the features.
    """
    factor = scale * jax.lax.rsqrt(variance + epsilon)
    mean, factor, bias = (values[None, None, None] for values in (mean, factor, bias))
    return ((features.astype(jnp.float32) - mean) * factor + bias).astype(features.dtype)


def batch_norm(
    features: Float[Array, "N h w C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    mean: Float[Array, " C"],
    variance: Float[Array, " C"],
    *,
    norm: Norm,
) -> tuple[Float[Array, "N h w C"], Float[Array, " C"], Float[Array, " C"]]:
    """The normalized features, and the running mean and variance moved towards those of the batch.

    The batch is normalized by its biased variance (divided by n = N h w), and the running variance moves towards the
    unbiased one (divided by n - 1), as in PyTorch. Under jit the means are over the whole batch, however it is split
    over devices: the statistics are synchronised.

    Args:
        features: of any floating dtype.
        scale: gamma, float32.
        bias: beta, float32.
        mean: the running mean, float32. It is also what the batch's deviations are taken from, so that mean and
            variance need one pass over the features and lose no digits.
        variance: the running variance, float32.
        norm: epsilon and momentum.

    Returns:
        (features in their dtype, running mean, running variance).

    Source:
        Ioffe and Szegedy 2015, arXiv:1502.03167; running statistics as in torch.nn.BatchNorm2d.

    Example:
        >>> one, zero = jnp.ones((1,)), jnp.zeros((1,))
        >>> features = jnp.array([1.0, 3.0])[:, None, None, None]
        >>> normal, mean, variance = batch_norm(features, one, zero, zero, one, norm=Norm(epsilon=0.0))
        >>> normal.ravel().tolist(), round(float(mean[0]), 6), round(float(variance[0]), 6)
        ([-1.0, 1.0], 0.2, 1.1)
    """
    count = features.size // features.shape[-1]
    deviations = features.astype(jnp.float32) - jax.lax.stop_gradient(mean)[None, None, None]
    shift = deviations.mean(axis=(0, 1, 2))
    biased = jnp.maximum(jnp.square(deviations).mean(axis=(0, 1, 2)) - jnp.square(shift), 0.0)
    of_batch = jax.lax.stop_gradient(mean) + shift
    normal = normalize_features(features, of_batch, biased, scale, bias, epsilon=norm.epsilon)
    unbiased = biased * (count / max(count - 1, 1))
    moved = (1 - norm.momentum) * variance + norm.momentum * unbiased
    return normal, mean + norm.momentum * shift, moved
