"""The few layers that the backbones are made of, channels last, each in the form that is fast on the platform.

In a network that is explained, batch norm is folded into the convolutions: they have a bias and nothing else. In its
training form (a `Norm` is given), batch norm stands behind them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.hooks import Affine, plain_affine
from mlfem_jax.backbones.networks.batch_norm import Norm, batch_norm, normalize_features

Features = Float[Array, "N _h _w _c"]


class Conv(nnx.Module):
    """A convolution with bias, or with batch norm."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: int | tuple[int, int],
        *,
        rngs,
        stride: int = 1,
        groups: int = 1,
        padding: str = "symmetric",
        bias: bool = True,
        norm: Norm | None = None,
    ):
        """He-normal kernel, zero bias, or none; `padding` is "symmetric", "same" or "valid", see `convolve`."""
        rows, columns = (size, size) if isinstance(size, int) else size
        shape = (rows, columns, channels_in // groups, channels_out)
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels_out,), jnp.float32)) if bias else None
        self.stride, self.groups, self.padding, self.norm = stride, groups, padding, norm
        if norm is not None:
            self.scale = nnx.Param(jnp.ones((channels_out,), jnp.float32))
            self.mean = nnx.BatchStat(jnp.zeros((channels_out,), jnp.float32))
            self.variance = nnx.BatchStat(jnp.ones((channels_out,), jnp.float32))

    def __call__(self, inputs: Features, affine: Affine = plain_affine) -> Features:
        """(N, H, W, C) to (N, ceil(H / stride), ceil(W / stride), channels_out)."""
        convolution = functools.partial(convolve, stride=self.stride, groups=self.groups, padding=self.padding)
        if self.norm is not None:
            return self._normalized(convolution(inputs, self.kernel[...]), self.norm)
        kernel = self.kernel[...]
        bias = jnp.zeros(kernel.shape[-1:], kernel.dtype) if self.bias is None else self.bias[...]
        return affine(convolution, inputs, kernel, bias[None, None, None])

    def _normalized(self, features: Features, norm: Norm) -> Features:
        scale, bias, mean, variance = (leaf[...] for leaf in (self.scale, self.bias, self.mean, self.variance))  # pyrefly: ignore
        if norm.running:
            return normalize_features(features, mean, variance, scale, bias, epsilon=norm.epsilon)
        features, self.mean[...], self.variance[...] = batch_norm(features, scale, bias, mean, variance, norm=norm)
        return features


class Linear(nnx.Module):
    """A dense layer, over the last axis."""

    def __init__(self, features_in: int, features_out: int, *, rngs, bias: bool = True):
        """Lecun-normal kernel, zero bias, or none."""
        self.kernel = nnx.Param(
            nnx.initializers.lecun_normal()(rngs.params(), (features_in, features_out), jnp.float32)
        )
        self.bias = nnx.Param(jnp.zeros((features_out,), jnp.float32)) if bias else None

    def __call__(self, inputs: Float[Array, "*N F"], affine: Affine = plain_affine) -> Float[Array, "*N G"]:
        """(*N, features_in) to (*N, features_out)."""
        kernel = self.kernel[...]
        bias = jnp.zeros(kernel.shape[1:], kernel.dtype) if self.bias is None else self.bias[...]
        return affine(jnp.matmul, inputs, kernel, jnp.expand_dims(bias, range(inputs.ndim - 1)))


def convolve(
    inputs: Features, kernel: Float[Array, "k l I O"], *, stride: int = 1, groups: int = 1, padding: str = "symmetric"
) -> Features:
    """2-D convolution, the edges padded with zeros.

    "symmetric" pads (k - 1) // 2 on each side, as PyTorch's networks were trained. "same" pads only what the last
    window needs, and the odd one behind, as TensorFlow's were: with stride 2 the two lie one pixel apart. "valid" pads
    nothing.

    On a CPU, XLA's depthwise convolution is some 30 times slower than shifting and adding, and its 1x1 convolution
    slower than the same matrix product, so those two are chosen there.
    """
    pads = [
        _padding(length, size, stride, padding)
        for length, size in zip(inputs.shape[1:3], kernel.shape[:2], strict=True)
    ]

    def convolution(inputs, kernel):
        return jax.lax.conv_general_dilated(
            inputs,
            kernel,
            (stride, stride),
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def product(inputs, kernel):
        return inputs[:, ::stride, ::stride] @ kernel[0, 0]

    def shift_and_add(inputs, kernel):
        return depthwise(inputs, kernel, stride, tuple(pads))

    if kernel.shape[:2] == (1, 1) and groups == 1:
        return jax.lax.platform_dependent(inputs, kernel, cpu=product, default=convolution)
    if groups == inputs.shape[-1] == kernel.shape[-1]:
        return jax.lax.platform_dependent(inputs, kernel, cpu=shift_and_add, default=convolution)
    return convolution(inputs, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(
    inputs: Features, kernel: Float[Array, "k k 1 O"], stride: int, pads: tuple[tuple[int, int], tuple[int, int]]
) -> Features:
    """Depthwise convolution by shifting and adding; so is its gradient, of which XLA makes many small steps."""
    size = kernel.shape[0]
    windows = _windows(jnp.pad(inputs, ((0, 0), *pads, (0, 0))), size, stride)
    weights = kernel.reshape(size * size, 1, 1, 1, -1)
    return functools.reduce(jnp.add, (window * weight for window, weight in zip(windows, weights, strict=True)))


def _windows(padded: Features, size: int, stride: int) -> list[Features]:
    """What each of the size x size kernel values is multiplied with, row by row."""
    rows, columns = ((length - size) // stride * stride + 1 for length in padded.shape[1:3])
    return [padded[:, y : y + rows : stride, x : x + columns : stride] for y, x in np.ndindex(size, size)]


def _depthwise_backward(stride, pads, operands, gradient):
    inputs, kernel = operands
    size = kernel.shape[0]
    spread = [(size - 1 - before, stride - 1) for before, _ in pads]
    # Zeros between the outputs undo the stride; what is missing behind them is negative padding where too much is.
    behind = [
        length + size - 1 - front - ((outputs - 1) * stride + 1)
        for length, outputs, (front, _) in zip(inputs.shape[1:3], gradient.shape[1:3], spread, strict=True)
    ]
    edges = [(front, back, between) for (front, between), back in zip(spread, behind, strict=True)]
    dilated = jax.lax.pad(gradient, np.zeros((), gradient.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    for_inputs = depthwise(dilated, kernel[::-1, ::-1], 1, ((0, 0), (0, 0)))
    for_kernel = [
        (window * gradient).sum(axis=(0, 1, 2))
        for window in _windows(jnp.pad(inputs, ((0, 0), *pads, (0, 0))), size, stride)
    ]
    return for_inputs, jnp.stack(for_kernel).reshape(kernel.shape)


depthwise.defvjp(
    lambda inputs, kernel, *static: (depthwise(inputs, kernel, *static), (inputs, kernel)), _depthwise_backward
)


def _padding(length: int, size: int, stride: int, rule: str) -> tuple[int, int]:
    """Zeros before and behind an axis."""
    if rule != "same":
        return ((size - 1) // 2,) * 2 if rule == "symmetric" else (0, 0)
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def max_pool(inputs: Features, *, size: int, stride: int, padding: int = 0) -> Features:
    """Maximum over windows; padding never wins."""
    lowest = np.array(-np.inf, inputs.dtype)  # a NumPy constant: JAX differentiates the maximum it recognizes
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jax.lax.reduce_window(inputs, lowest, jax.lax.max, (1, size, size, 1), (1, stride, stride, 1), sides)


def adaptive_mean_pool(inputs: Features, size: int) -> Features:
    """Means over size x size windows that cover the image, as PyTorch's AdaptiveAvgPool2d cuts them."""
    if inputs.shape[1:3] == (size, size):
        return inputs
    rows, columns = (_window_means(length, size) for length in inputs.shape[1:3])
    dtype = inputs.dtype
    return jnp.einsum("ah,nhwc,bw->nabc", rows.astype(dtype), inputs, columns.astype(dtype))


def _window_means(length: int, size: int) -> np.ndarray:
    """(size, length) matrix whose row i averages the window from floor(i m / n) to ceil((i + 1) m / n)."""
    window, position = np.arange(size)[:, None], np.arange(length)[None]
    inside = (position >= window * length // size) & (position < -(-(window + 1) * length // size))
    return inside / inside.sum(axis=1, keepdims=True)


def mean_pool(inputs: Features) -> Float[Array, "N C"]:
    """Mean over all positions, in float32."""
    return inputs.mean(axis=(1, 2), dtype=jnp.float32).astype(inputs.dtype)
