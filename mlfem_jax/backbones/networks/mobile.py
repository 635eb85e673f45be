"""MobileNetV3 and EfficientNetV2: blocks that widen, filter each channel, and narrow again.

What FEM sees is each block's output, which no non-linearity follows, and the last convolution behind its activation
function, which is smooth and goes a little below zero.

Source: Howard et al., Searching for MobileNetV3 (2019), tables 1 and 2; Tan and Le, EfficientNetV2 (2021), table 4.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable

from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.base import Activations
from mlfem_jax.backbones.hooks import PLAIN, Rules, Tap, no_tap
from mlfem_jax.backbones.networks.batch_norm import Norm
from mlfem_jax.backbones.networks.layers import Conv, Features, Linear, mean_pool
from mlfem_jax.backbones.networks.once import computed_once
from mlfem_jax.backbones.networks.parts import SqueezeExcite, activate


@dataclasses.dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        size: side of its kernel.
        stride: of that kernel.
        inner: channels inside.
        width: channels out.
        squeezed: channels of its squeeze-and-excitation; 0 without.
        activation: "relu", "hard_swish" or "silu".
        fused: the first two convolutions are one; the only one where nothing is widened.
    """

    size: int
    stride: int
    inner: int
    width: int
    squeezed: int = 0
    activation: str = "silu"
    fused: bool = False


@dataclasses.dataclass(frozen=True)
class Mobile:
    """All that distinguishes one network of this kind from another.

    Attributes:
        stem: channels of the first convolution.
        stages: blocks, by stages as timm counts them.
        head: channels of the last convolution.
        hidden: width of the dense layer between the mean over positions and the last one; 0 without.
        activation: of the first and last convolutions.
        squeeze: activation function and gate of the squeeze-and-excitation.
        padding: see `layers.convolve`.
    """

    stem: int
    stages: tuple[tuple[Block, ...], ...]
    head: int
    hidden: int = 0
    activation: str = "silu"
    squeeze: tuple[str, str] = ("silu", "sigmoid")
    padding: str = "symmetric"


class InvertedResidual(nnx.Module):
    """Widen by 1x1, filter each channel, gate the channels, narrow by 1x1; a shortcut where shapes agree."""

    def __init__(self, channels: int, block: Block, config: Mobile, *, rngs, norm: Norm | None):
        """From `channels`."""
        widens, inner = block.inner != channels, block.inner
        filters = {"stride": block.stride, "padding": config.padding, "norm": norm, "rngs": rngs}
        if block.fused:
            first = Conv(channels, inner if widens else block.width, block.size, **filters)
            self.expand, self.depthwise = first, None
        else:
            self.expand = Conv(channels, inner, 1, norm=norm, rngs=rngs) if widens else None
            self.depthwise = Conv(inner, inner, block.size, groups=inner, **filters)
        activation, gate = config.squeeze
        gated = {"activation": activation, "gate": gate, "rngs": rngs}
        self.squeeze = SqueezeExcite(inner, block.squeezed, **gated) if block.squeezed else None
        narrows = widens or not block.fused
        self.project = Conv(inner, block.width, 1, norm=norm, rngs=rngs) if narrows else None
        self.residual = block.stride == 1 and channels == block.width
        self.activation, self.norm = block.activation, norm

    def __call__(self, inputs: Features, rules: Rules = PLAIN) -> Features:
        """The block's linear output; of a fused one that widens nothing, behind its activation function."""
        features = inputs
        for conv in (self.expand, self.depthwise):
            if conv is not None:
                features = computed_once(self._activated(conv, rules), features, norm=self.norm)
        features = features if self.squeeze is None else self.squeeze(features, rules)
        features = features if self.project is None else self.project(features, rules.conv)
        return rules.add(features, inputs) if self.residual else features

    def _activated(self, conv: Conv, rules: Rules) -> Callable[[Features], Features]:
        return lambda features: activate(self.activation, conv(features, rules.conv), rules)


class MobileNet(nnx.Module):
    """The activations are "blocks.0.0", "blocks.1.0", "blocks.1.1", ... by stage, and "head"."""

    def __init__(self, config: Mobile, *, classes: int, rngs, norm: Norm | None = None):
        """`config` is the network."""
        self.stem = Conv(3, config.stem, 3, stride=2, padding=config.padding, norm=norm, rngs=rngs)
        channels, stages = config.stem, nnx.List()
        for blocks in config.stages:
            stage = nnx.List()
            for block in blocks:
                stage.append(InvertedResidual(channels, block, config, norm=norm, rngs=rngs))
                channels = block.width
            stages.append(stage)
        self.blocks = stages
        self.head = Conv(channels, config.head, 1, norm=norm, rngs=rngs)
        self.hidden = Linear(config.head, config.hidden, rngs=rngs) if config.hidden else None
        self.fc = Linear(config.hidden or config.head, classes, rngs=rngs)
        self.activation = config.activation

    def __call__(
        self, inputs: Features, *, tap: Tap = no_tap, rules: Rules = PLAIN
    ) -> tuple[Float[Array, "N classes"], Activations]:
        """(N, H, W, 3) to logits (N, classes) and the activations."""

        def activated(features: Array) -> Array:
            return activate(self.activation, features, rules)

        features = activated(self.stem(inputs, rules.first))
        activations: Activations = OrderedDict()
        for number, stage in enumerate(self.blocks):
            for index, block in enumerate(stage):
                name = f"blocks.{number}.{index}"
                features = activations[name] = tap(name, block(features, rules))
        head = activations["head"] = tap("head", activated(self.head(features, rules.conv)))
        pooled = rules.average(mean_pool, head)
        pooled = pooled if self.hidden is None else activated(self.hidden(pooled, rules.dense))
        return self.fc(pooled, rules.dense), activations


def sign(layer: str) -> str:
    """What FEM does with activations below zero."""
    return "relu" if layer == "head" else "two_sided"


def _divisible(channels: int) -> int:
    """The nearest multiple of 8, but not less than nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _v3(stem: int, head: int, hidden: int, *stages: tuple[tuple[int, int, int, int, bool, str], ...]) -> Mobile:
    built = tuple(
        tuple(
            Block(size, stride, inner, width, _divisible(inner // 4) if gated else 0, activation)
            for size, stride, inner, width, gated, activation in stage
        )
        for stage in stages
    )
    return Mobile(stem, built, head, hidden, "hard_swish", ("relu", "hard_sigmoid"))


def _v2(*stages: tuple[int, int, int, int, int, bool], padding: str = "symmetric") -> Mobile:
    """Of (repeats, stride, expansion, channels in, width, fused)."""
    built = []
    for repeats, first_stride, expansion, channels, width, fused in stages:
        blocks = []
        for index in range(repeats):
            stride, entering = (first_stride, channels) if index == 0 else (1, width)
            squeezed = 0 if fused else entering // 4
            blocks.append(Block(3, stride, _divisible(entering * expansion), width, squeezed, "silu", fused))
        built.append(tuple(blocks))
    return Mobile(stages[0][3], tuple(built), 1280, padding=padding)


RE, HS = "relu", "hard_swish"
_S = ((2, 1, 1, 24, 24, True), (4, 2, 4, 24, 48, True), (4, 2, 4, 48, 64, True), (6, 2, 4, 64, 128, False),
      (9, 1, 6, 128, 160, False), (15, 2, 6, 160, 256, False))  # fmt: skip
_M = ((3, 1, 1, 24, 24, True), (5, 2, 4, 24, 48, True), (5, 2, 4, 48, 80, True), (7, 2, 4, 80, 160, False),
      (14, 1, 6, 160, 176, False), (18, 2, 6, 176, 304, False), (5, 1, 6, 304, 512, False))  # fmt: skip
_L = ((4, 1, 1, 32, 32, True), (7, 2, 4, 32, 64, True), (7, 2, 4, 64, 96, True), (10, 2, 4, 96, 192, False),
      (19, 1, 6, 192, 224, False), (25, 2, 6, 224, 384, False), (7, 1, 6, 384, 640, False))  # fmt: skip
EFFICIENTNET_V2 = {"s": _S, "m": _M, "l": _L}
MOBILENET_V3 = {
    "large": _v3(
        16, 960, 1280,
        ((3, 1, 16, 16, False, RE),),
        ((3, 2, 64, 24, False, RE), (3, 1, 72, 24, False, RE)),
        ((5, 2, 72, 40, True, RE), (5, 1, 120, 40, True, RE), (5, 1, 120, 40, True, RE)),
        ((3, 2, 240, 80, False, HS), (3, 1, 200, 80, False, HS), (3, 1, 184, 80, False, HS),
         (3, 1, 184, 80, False, HS)),
        ((3, 1, 480, 112, True, HS), (3, 1, 672, 112, True, HS)),
        ((5, 2, 672, 160, True, HS), (5, 1, 960, 160, True, HS), (5, 1, 960, 160, True, HS)),
    ),
    "small": _v3(
        16, 576, 1024,
        ((3, 2, 16, 16, True, RE),),
        ((3, 2, 72, 24, False, RE), (3, 1, 88, 24, False, RE)),
        ((5, 2, 96, 40, True, HS), (5, 1, 240, 40, True, HS), (5, 1, 240, 40, True, HS)),
        ((5, 1, 120, 48, True, HS), (5, 1, 144, 48, True, HS)),
        ((5, 2, 288, 96, True, HS), (5, 1, 576, 96, True, HS), (5, 1, 576, 96, True, HS)),
    ),
}  # fmt: skip


def efficientnet_v2(variant: str, padding: str = "symmetric") -> Mobile:
    """EfficientNetV2 "s", "m" or "l"; padded "same" where its weights come from TensorFlow."""
    return _v2(*EFFICIENTNET_V2[variant], padding=padding)
