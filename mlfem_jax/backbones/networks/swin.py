"""Swin Transformer, V1 and V2: attention within windows of a grid, every second time windows that lie across the first.

What FEM sees is the output of each block, a grid of tokens, which no non-linearity follows.

Source: Liu et al., Swin Transformer (2021), equations 3 and 4; Liu et al., Swin Transformer V2 (2022), equations 2 and
3 (cosine attention, log-spaced continuous position bias), section 3.2 (norms behind the two parts of a block).
"""

import dataclasses
from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.base import Activations
from mlfem_jax.backbones.hooks import PLAIN, Rules, Tap, no_tap
from mlfem_jax.backbones.networks.batch_norm import Norm
from mlfem_jax.backbones.networks.layers import Conv, Features, Linear, mean_pool
from mlfem_jax.backbones.networks.parts import LayerNorm, exact_gelu

EPSILON = 1e-5
_APART = -100.0  # what is added to the score of two tokens that only lie side by side since the grid was rolled


@dataclasses.dataclass(frozen=True)
class Swin:
    """What distinguishes one Swin from another.

    Attributes:
        width: channels of the first stage; each next one has twice as many.
        depths: blocks of each stage.
        heads: of each stage.
        window: tokens along a window's side.
        second: the form of V2.
    """

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int = 7
    second: bool = False


VARIANTS = {
    "tiny": Swin(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": Swin(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": Swin(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": Swin(192, (2, 2, 18, 2), (6, 12, 24, 48)),
}


class Attention(nnx.Module):
    """Attention within windows, with a bias for each relative position."""

    def __init__(self, width: int, heads: int, config: Swin, *, rngs):
        """`heads` of `width` / `heads` channels each."""
        self.heads, self.window, self.second = heads, config.window, config.second
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        if config.second:
            self.logit_scale = nnx.Param(jnp.full((heads, 1, 1), np.log(10), jnp.float32))
            self.cpb_mlp = nnx.Dict({"0": Linear(2, 512, rngs=rngs), "2": Linear(512, heads, rngs=rngs, bias=False)})
        else:
            positions = (2 * config.window - 1) ** 2
            self.relative_position_bias_table = nnx.Param(jnp.zeros((positions, heads), jnp.float32))

    def __call__(self, tokens: Features, shift: int, rules: Rules) -> Features:
        """(N, h, w, C) to the same; windows begin `shift` tokens later, and go on at the other end."""
        height, width = tokens.shape[1:3]
        side = self.window
        padded = (-(-height // side) * side, -(-width // side) * side)
        tokens = jnp.pad(tokens, ((0, 0), (0, padded[0] - height), (0, padded[1] - width), (0, 0)))
        shifts = (shift if padded[0] > side else 0, shift if padded[1] > side else 0)
        rolled = jnp.roll(tokens, (-shifts[0], -shifts[1]), axis=(1, 2)) if any(shifts) else tokens
        windows = self._attend(_windows(rolled, side), _apart(padded, shifts, side), rules)
        rolled = self.proj(_grid(windows, padded, side), rules.dense)
        return (jnp.roll(rolled, shifts, axis=(1, 2)) if any(shifts) else rolled)[:, :height, :width]

    def _attend(
        self, windows: Float[Array, "N V T C"], apart: np.ndarray | None, rules: Rules
    ) -> Float[Array, "N V T C"]:
        parts = self.qkv(windows, rules.dense).reshape(*windows.shape[:3], 3, self.heads, -1)
        query, key, value = (parts[:, :, :, part] for part in range(3))
        if self.second:
            scale = jnp.exp(jnp.minimum(self.logit_scale[...], np.float32(np.log(100))))[None, None]
            query, key = rules.gelu(_unit, query), rules.gelu(_unit, key)
        else:
            scale = jnp.full((1, 1, 1, 1, 1), query.shape[-1] ** -0.5, jnp.float32)
        scores = rules.product(_scores, query, key)
        bias = self._position_bias().astype(jnp.float32)[None, None]
        bias = bias if apart is None else bias + jnp.asarray(apart, jnp.float32)[None, :, None]
        scores = rules.dense(jnp.multiply, scores.astype(jnp.float32), scale.astype(jnp.float32), bias)
        softmax = rules.softmax(_softmax, scores).astype(value.dtype)
        return rules.product(_read, softmax, value).reshape(windows.shape)

    def _position_bias(self) -> Float[Array, "heads T T"]:
        index = _relative_positions(self.window)
        if not self.second:
            return self.relative_position_bias_table[...][index].transpose(2, 0, 1)
        first, last = self.cpb_mlp["0"], self.cpb_mlp["2"]
        table = jnp.asarray(_log_coordinates(self.window), first.kernel[...].dtype)
        bias = last(jax.nn.relu(first(table)))
        return 16 * jax.nn.sigmoid(bias[index]).transpose(2, 0, 1)


class Mlp(nnx.Module):
    """Two dense layers at each token."""

    def __init__(self, width: int, *, rngs):
        """Four times as wide inside."""
        self.fc1, self.fc2 = Linear(width, 4 * width, rngs=rngs), Linear(4 * width, width, rngs=rngs)

    def __call__(self, tokens: Features, rules: Rules) -> Features:
        """The same shape."""
        return self.fc2(rules.gelu(exact_gelu, self.fc1(tokens, rules.dense)), rules.dense)


class Block(nnx.Module):
    """Attention and an MLP, each added to the tokens; norms stand before them, in V2 behind."""

    def __init__(self, width: int, heads: int, config: Swin, *, shift: int, rngs):
        """Windows are shifted by `shift` tokens."""
        self.norm1, self.norm2 = LayerNorm(width, epsilon=EPSILON), LayerNorm(width, epsilon=EPSILON)
        self.attn, self.mlp = Attention(width, heads, config, rngs=rngs), Mlp(width, rngs=rngs)
        self.shift, self.second = shift, config.second

    def __call__(self, tokens: Features, rules: Rules) -> Features:
        """The same shape."""
        if self.second:
            tokens = rules.add(tokens, self.norm1(self.attn(tokens, self.shift, rules), rules))
            return rules.add(tokens, self.norm2(self.mlp(tokens, rules), rules))
        tokens = rules.add(tokens, self.attn(self.norm1(tokens, rules), self.shift, rules))
        return rules.add(tokens, self.mlp(self.norm2(tokens, rules), rules))


class Merging(nnx.Module):
    """Four neighbors become one token of twice the width."""

    def __init__(self, width: int, config: Swin, *, rngs):
        """From `width` channels."""
        self.second = config.second
        self.norm = LayerNorm((2 if config.second else 4) * width, epsilon=EPSILON)
        self.reduction = Linear(4 * width, 2 * width, rngs=rngs, bias=False)

    def __call__(self, tokens: Features, rules: Rules) -> Features:
        """(N, h, w, C) to (N, ceil(h / 2), ceil(w / 2), 2 C)."""
        height, width = tokens.shape[1:3]
        tokens = jnp.pad(tokens, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        four = jnp.concatenate([tokens[:, y::2, x::2] for x in (0, 1) for y in (0, 1)], axis=-1)
        if self.second:
            return self.norm(self.reduction(four, rules.dense), rules)
        return self.reduction(self.norm(four, rules), rules.dense)


class SwinTransformer(nnx.Module):
    """The activations are the outputs of the blocks: "layers.0.blocks.0", "layers.0.blocks.1", ..."""

    def __init__(self, config: Swin, *, classes: int, rngs, norm: Norm | None = None):
        """`norm` is None, for there is no batch norm."""
        width = config.width
        patches = Conv(3, width, 4, stride=4, padding="valid", rngs=rngs)
        self.patch_embed: nnx.Dict[Any] = nnx.Dict(proj=patches, norm=LayerNorm(width, epsilon=EPSILON))
        layers = nnx.List()
        for stage, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
            layer = nnx.Dict()
            if stage:
                layer["downsample"] = Merging(width, config, rngs=rngs)
                width *= 2
            shifts = [config.window // 2 * (index % 2) for index in range(depth)]
            layer["blocks"] = nnx.List([Block(width, heads, config, shift=shift, rngs=rngs) for shift in shifts])
            layers.append(layer)
        self.layers = layers
        self.norm = LayerNorm(width, epsilon=EPSILON)
        self.head = nnx.Dict(fc=Linear(width, classes, rngs=rngs))

    def __call__(
        self, inputs: Features, *, tap: Tap = no_tap, rules: Rules = PLAIN
    ) -> tuple[Float[Array, "N classes"], Activations]:
        """(N, H, W, 3) to logits (N, classes) and the activations of the blocks."""
        tokens = self.patch_embed["norm"](self.patch_embed["proj"](inputs, rules.first), rules)
        activations: Activations = OrderedDict()
        for stage, layer in enumerate(self.layers):
            tokens = layer["downsample"](tokens, rules) if "downsample" in layer else tokens
            for index, block in enumerate(layer["blocks"]):
                name = f"layers.{stage}.blocks.{index}"
                tokens = activations[name] = tap(name, block(tokens, rules))
        pooled = rules.average(mean_pool, self.norm(tokens, rules))
        return self.head["fc"](pooled, rules.dense), activations


def _scores(query: Float[Array, "N V Q h c"], key: Float[Array, "N V T h c"]) -> Float[Array, "N V h Q T"]:
    return jnp.einsum("nvqhc,nvthc->nvhqt", query, key)


def _read(softmax: Float[Array, "N V h Q T"], value: Float[Array, "N V T h c"]) -> Float[Array, "N V Q h c"]:
    return jnp.einsum("nvhqt,nvthc->nvqhc", softmax, value)


def _softmax(scores: Float[Array, "N V h Q T"]) -> Float[Array, "N V h Q T"]:
    return jax.nn.softmax(scores, axis=-1)


def _windows(tokens: Features, side: int) -> Float[Array, "N V T C"]:
    count, height, width, channels = tokens.shape
    cut = tokens.reshape(count, height // side, side, width // side, side, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, side * side, channels)


def _grid(windows: Float[Array, "N V T C"], size: tuple[int, int], side: int) -> Features:
    height, width = size
    cut = windows.reshape(len(windows), height // side, width // side, side, side, -1)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(len(windows), height, width, -1)


def _apart(size: tuple[int, int], shifts: tuple[int, int], side: int) -> np.ndarray | None:
    """(V, T, T): what keeps tokens apart that a window holds from two ends of the grid; None where there are none."""
    if not any(shifts):
        return None
    parts = []
    for length, shift in zip(size, shifts, strict=True):
        place = np.arange(length)
        # As PyTorch cuts it: without a shift along an axis, its last window is no part of its own.
        parts.append((place >= length - side) * 1 + (place >= length - shift) * 1 if shift else 0 * place)
    part = (3 * parts[0][:, None] + parts[1][None])[None, ..., None]
    flat = part.reshape(1, size[0] // side, side, size[1] // side, side).transpose(0, 1, 3, 2, 4)
    flat = flat.reshape(-1, side * side)
    return np.where(flat[:, None] != flat[:, :, None], _APART, 0.0)


def _relative_positions(side: int) -> np.ndarray:
    """(T, T) row of the table of biases for query and key."""
    y, x = (axis.ravel() for axis in np.mgrid[:side, :side])
    down, right = (axis[:, None] - axis[None] + side - 1 for axis in (y, x))
    return down * (2 * side - 1) + right


def _log_coordinates(side: int) -> np.ndarray:
    """((2 side - 1)^2, 2) relative positions, as V2's small network sees them: log-spaced, 8 steps at the edge."""
    steps = np.arange(1 - side, side) / max(side - 1, 1) * 8
    logs = np.sign(steps) * np.log2(np.abs(steps) + 1) / 3
    return np.stack(np.meshgrid(logs, logs, indexing="ij"), axis=-1).reshape(-1, 2)


def _unit(vectors: Float[Array, "*N c"]) -> Float[Array, "*N c"]:
    wide = vectors.astype(jnp.float32)
    return (wide / jnp.maximum(jnp.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)).astype(vectors.dtype)
