"""EfficientNet-Lite0 to 4: EfficientNet-B0 to B4 without squeeze-and-excitation, with ReLU6."""

import math
import re
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.base import Activations
from mlfem_jax.backbones.hooks import PLAIN, Rules, Tap, no_tap
from mlfem_jax.backbones.networks.batch_norm import Norm
from mlfem_jax.backbones.networks.layers import Conv, Features, Linear, mean_pool
from mlfem_jax.backbones.networks.once import computed_once

STAGES = (
    # repeats, kernel size, stride, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Of Lite0. Source: Tan and Le, EfficientNet (2019), table 1; the stem and head stay at 32 and 1280 channels."""
Stages = tuple[tuple[int, int, int, int, int], ...]


def scaled(width: float, depth: float) -> Stages:
    """The stages of a larger network: wider and deeper by these factors.

    Widths are multiples of 8, not less than nine tenths of what they should be. The first and the last stage stay as
    deep as they are.
    """
    stages = []
    for index, (repeats, size, stride, expansion, channels) in enumerate(STAGES):
        wider = max(8, int(channels * width + 4) // 8 * 8)
        wider += 8 if wider < 0.9 * channels * width else 0
        deeper = repeats if index in (0, len(STAGES) - 1) else math.ceil(repeats * depth)
        stages.append((deeper, size, stride, expansion, wider))
    return tuple(stages)


class InvertedResidual(nnx.Module):
    """Expand by 1x1, filter each channel, project by 1x1 without an activation; a shortcut where shapes agree."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        size: int,
        stride: int,
        expansion: int,
        rngs,
        norm: Norm | None = None,
    ):
        """`expansion` times `channels_in` channels are filtered."""
        inner = channels_in * expansion
        self.norm = norm
        self.expand = Conv(channels_in, inner, 1, norm=norm, rngs=rngs) if expansion > 1 else None
        self.depthwise = Conv(inner, inner, size, stride=stride, groups=inner, padding="same", norm=norm, rngs=rngs)
        self.project = Conv(inner, channels_out, 1, norm=norm, rngs=rngs)
        self.residual = stride == 1 and channels_in == channels_out

    def __call__(
        self, inputs: Features, name: str = "", *, tap: Tap = no_tap, rules: Rules = PLAIN
    ) -> tuple[Features, Features]:
        """The block's linear output, and the activation before its projection, called `name`."""
        expanded = inputs if self.expand is None else rules.relu6(self.expand(inputs, rules.conv))

        def filter_channels(expanded):
            return rules.relu6(self.depthwise(expanded, rules.conv))

        filtered = computed_once(filter_channels, expanded, norm=self.norm)
        filtered = tap(name, filtered)
        projected = self.project(filtered, rules.conv)
        return rules.add(projected, inputs) if self.residual else projected, filtered


class EfficientNetLite(nnx.Module):
    """The activations are "blocks.0" to "blocks.15" (in Lite0) and "head".

    Its weights come from TensorFlow, so its padding is "same": padded symmetrically it still classifies, but its
    activations lie some 20 pixels too far to the lower right by the last layer.

    A block's own output is linear, so what stands for it is the ReLU6 behind its depthwise convolution, as FEM wants
    features after a positive non-linearity.
    """

    def __init__(self, stages: Stages = STAGES, *, classes: int, rngs, norm: Norm | None = None):
        """`stages` hold repeats, kernel size, stride, expansion and channels out of each."""
        self.stem = Conv(3, 32, 3, stride=2, padding="same", norm=norm, rngs=rngs)
        channels, self.blocks = 32, nnx.List()
        for repeats, size, first_stride, expansion, width in stages:
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                shape = {"size": size, "stride": stride, "expansion": expansion}
                self.blocks.append(InvertedResidual(channels, width, **shape, norm=norm, rngs=rngs))
                channels = width
        self.head = Conv(channels, 1280, 1, norm=norm, rngs=rngs)
        self.fc = Linear(1280, classes, rngs=rngs)

    def __call__(
        self, inputs: Features, *, tap: Tap = no_tap, rules: Rules = PLAIN
    ) -> tuple[Float[Array, "N classes"], Activations]:
        """(N, H, W, 3) to logits (N, classes) and the activations."""
        features, activations = rules.relu6(self.stem(inputs, rules.first)), OrderedDict()
        for index, block in enumerate(self.blocks):
            name = f"blocks.{index}"
            features, activations[name] = block(features, name, tap=tap, rules=rules)
        head = activations["head"] = tap("head", rules.relu6(self.head(features, rules.conv)))
        return self.fc(rules.average(mean_pool, head), rules.dense), activations


def torch_names(path: str) -> tuple[str, str | None]:
    """State-dict names of the convolution at `path` and of the batch norm behind it."""
    outer = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1"), "fc": ("_fc", None)}
    if path in outer:
        return outer[path]
    block, _, conv = path.rpartition(".")
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[conv]
    return f"_{block}._{conv}_conv", f"_{block}.{norm}"


_TIMM = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}
_TIMM_BLOCK = {
    # The first block widens nothing, and so has one convolution less.
    True: {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"},
    False: {
        **{"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"},
        **{"conv_pwl": "_project_conv", "bn3": "_bn2"},
    },
}


def renamed(name: str, stages: Stages) -> str:
    """An entry's name as the port for PyTorch has it, from timm's (whose "tf_" files have TensorFlow's padding)."""
    module, _, leaf = name.rpartition(".")
    match = re.fullmatch(r"blocks\.(\d)\.(\d+)\.(\w+)", module)
    if not match or int(match[1]) >= len(stages):
        return f"{_TIMM.get(module, module)}.{leaf}"
    stage, index, part = int(match[1]), int(match[2]), match[3]
    number = sum(repeats for repeats, *_ in stages[:stage]) + index
    return f"_blocks.{number}.{_TIMM_BLOCK[stages[stage][3] == 1].get(part, part)}.{leaf}"


def canonical(arrays: Mapping[str, np.ndarray], stages: Stages) -> dict[str, np.ndarray]:
    """The state dict by the port's names."""
    return {renamed(name, stages): array for name, array in arrays.items()}
