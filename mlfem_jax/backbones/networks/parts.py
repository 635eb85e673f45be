"""What today's networks are made of beside convolutions and dense layers."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.hooks import PLAIN, Affine, Rules, plain_affine
from mlfem_jax.backbones.networks.batch_norm import Norm, batch_norm, normalize_features
from mlfem_jax.backbones.networks.layers import Conv, Features, mean_pool

exact_gelu = functools.partial(jax.nn.gelu, approximate=False)
GELUS: dict[str, Callable[[Array], Array]] = {
    "exact": exact_gelu,
    "tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick": lambda x: x * jax.nn.sigmoid(1.702 * x),
}


class BatchNorm(nnx.Module):
    """A batch norm that stands alone: folded, a kernel and a bias for each channel."""

    def __init__(self, channels: int, *, norm: Norm | None = None):
        """Without any effect at first."""
        self.norm = norm
        ones, zeros = jnp.ones((channels,), jnp.float32), jnp.zeros((channels,), jnp.float32)
        self.bias = nnx.Param(zeros)
        if norm is None:
            self.kernel = nnx.Param(ones)
        else:
            self.scale, self.mean, self.variance = nnx.Param(ones), nnx.BatchStat(zeros), nnx.BatchStat(ones)

    def __call__(self, inputs: Features, affine: Affine = plain_affine) -> Features:
        """(N, H, W, C) to the same."""
        if self.norm is None:
            kernel, bias = (leaf[...][None, None, None] for leaf in (self.kernel, self.bias))
            return affine(jnp.multiply, inputs, kernel, bias)
        scale, bias, mean, variance = (leaf[...] for leaf in (self.scale, self.bias, self.mean, self.variance))
        if self.norm.running:
            return normalize_features(inputs, mean, variance, scale, bias, epsilon=self.norm.epsilon)
        normed, self.mean[...], self.variance[...] = batch_norm(inputs, scale, bias, mean, variance, norm=self.norm)
        return normed


class LayerNorm(nnx.Module):
    """Less the mean over the channels, over their deviation, times a weight, plus a bias; in float32."""

    def __init__(self, channels: int, *, epsilon: float):
        """`epsilon` is added to the variance."""
        self.weight = nnx.Param(jnp.ones((channels,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels,), jnp.float32))
        self.epsilon = epsilon

    def __call__(self, inputs: Float[Array, "*N C"], rules: Rules = PLAIN) -> Float[Array, "*N C"]:
        """The same shape."""
        return rules.normalize(inputs, self.weight[...], self.bias[...], self.epsilon)


def scale_channels(inputs: Float[Array, "*N C"], scale: Float[Array, " C"], rules: Rules) -> Float[Array, "*N C"]:
    """Each channel times a parameter (LayerScale)."""
    kernel = jnp.expand_dims(scale, range(inputs.ndim - 1))
    return rules.dense(jnp.multiply, inputs, kernel, jnp.zeros_like(kernel))


class SqueezeExcite(nnx.Module):
    """Each channel times a gate that is computed from the means of all.

    Source: Hu et al., Squeeze-and-Excitation Networks (2018), equations 2 to 4.
    """

    def __init__(self, channels: int, squeezed: int, *, rngs, activation: str = "relu", gate: str = "sigmoid"):
        """`activation` and `gate` are names in `ACTIVATIONS`."""
        self.reduce = Conv(channels, squeezed, 1, rngs=rngs)
        self.expand = Conv(squeezed, channels, 1, rngs=rngs)
        self.activation, self.gate = activation, gate

    def __call__(self, inputs: Features, rules: Rules = PLAIN) -> Features:
        """The same shape."""
        means = rules.average(mean_pool, inputs)[:, None, None]
        hidden = activate(self.activation, self.reduce(means, rules.conv), rules)
        gate = activate(self.gate, self.expand(hidden, rules.conv), rules)
        return rules.product(jnp.multiply, gate, inputs)


ACTIVATIONS = {
    "silu": jax.nn.silu,
    "hard_swish": jax.nn.hard_swish,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "gelu": exact_gelu,
}


def activate(name: str, inputs: Float[Array, "*N C"], rules: Rules) -> Float[Array, "*N C"]:
    """The activation function of that name, by its rule."""
    return rules.relu(inputs) if name == "relu" else rules.gelu(ACTIVATIONS[name], inputs)


def same_names(path: str) -> tuple[str, None]:
    """State-dict names of a network whose own are timm's."""
    return path, None


def window_means(inputs: Features, *, size: int, stride: int, padding: int = 0) -> Features:
    """Means over windows; what pads them counts as zero, as in PyTorch's AvgPool2d."""
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    zero = jnp.zeros((), inputs.dtype)
    sums = jax.lax.reduce_window(inputs, zero, jax.lax.add, (1, size, size, 1), (1, stride, stride, 1), sides)
    return sums / jnp.asarray(size * size, inputs.dtype)
