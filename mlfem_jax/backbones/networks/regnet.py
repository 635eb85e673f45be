"""RegNet X and Y: residual bottlenecks of grouped convolutions, their widths on a quantized line.

Source: Radosavovic et al., Designing Network Design Spaces (2020), equations 2 to 4; Y adds squeeze-and-excitation.
"""

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.base import Activations
from mlfem_jax.backbones.hooks import PLAIN, Rules, Tap, no_tap
from mlfem_jax.backbones.networks import hugging_face_names
from mlfem_jax.backbones.networks.batch_norm import Norm
from mlfem_jax.backbones.networks.layers import Conv, Features, Linear, mean_pool
from mlfem_jax.backbones.networks.once import computed_once
from mlfem_jax.backbones.networks.parts import SqueezeExcite


@dataclasses.dataclass(frozen=True)
class Stages:
    """Depth, width and channels of a group of each stage, and whether channels are gated (Y)."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    groups: tuple[int, ...]
    gated: bool = False


def stages(depth: int, initial: int, slope: float, step: float, group: int, *, gated: bool = False) -> Stages:
    """The stages of the network with these numbers, in float32 as they were first computed.

    Args:
        depth: blocks in all.
        initial: width of the first.
        slope: of the widths, from block to block.
        step: from a stage's width to the next, as a factor.
        group: channels of a group.
        gated: the form Y.
    """
    line = np.arange(depth, dtype=np.float32) * np.float32(slope) + np.float32(initial)
    exponents = np.round(np.log(line / np.float32(initial)) / np.float32(np.log(step)))
    quantized = np.round(np.float32(initial) * np.float32(step) ** exponents / 8) * 8
    widths, depths = np.unique(quantized.astype(int), return_counts=True)
    groups = [min(group, int(width)) for width in widths]
    fitting = [_fitting(int(width), one) for width, one in zip(widths, groups, strict=True)]
    return Stages(tuple(int(depth) for depth in depths), tuple(fitting), tuple(groups), gated)


def _fitting(width: int, group: int) -> int:
    """The nearest multiple of the group, but not less than nine tenths."""
    rounded = max(group, int(width + group / 2) // group * group)
    return rounded + group if rounded < 0.9 * width else rounded


class Bottleneck(nnx.Module):
    """1x1, grouped 3x3 and 1x1 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, group: int, *, stride: int, gated: bool, rngs, norm: Norm | None):
        """All of the same width."""
        shared = {"norm": norm, "rngs": rngs}
        self.conv1 = Conv(channels, width, 1, **shared)
        self.conv2 = Conv(width, width, 3, stride=stride, groups=width // group, **shared)
        self.se = SqueezeExcite(width, round(channels / 4), rngs=rngs) if gated else None
        self.conv3 = Conv(width, width, 1, **shared)
        changes = stride != 1 or channels != width
        self.downsample = Conv(channels, width, 1, stride=stride, **shared) if changes else None
        self.norm = norm

    def __call__(self, inputs: Features, rules: Rules = PLAIN) -> Features:
        """The sum of both paths after its ReLU."""
        shortcut = inputs if self.downsample is None else self.downsample(inputs, rules.conv)
        inner = rules.relu(self.conv1(inputs, rules.conv))
        inner = rules.relu(self.conv2(inner, rules.conv))
        inner = inner if self.se is None else self.se(inner, rules)

        def end(inner, shortcut):
            return rules.relu(rules.add(self.conv3(inner, rules.conv), shortcut))

        return computed_once(end, inner, shortcut, norm=self.norm)


class RegNet(nnx.Module):
    """The activations are the outputs of the blocks after the last ReLU: "s1.b1", "s2.b1", "s2.b2", ..."""

    def __init__(self, config: Stages, *, classes: int, rngs, norm: Norm | None = None):
        """`config` from `stages`."""
        self.stem = Conv(3, 32, 3, stride=2, norm=norm, rngs=rngs)
        channels, built = 32, nnx.List()
        for depth, width, group in zip(config.depths, config.widths, config.groups, strict=True):
            blocks = nnx.List()
            for index in range(depth):
                stride = 2 if index == 0 else 1
                shape = {"stride": stride, "gated": config.gated, "norm": norm, "rngs": rngs}
                blocks.append(Bottleneck(channels, width, group, **shape))
                channels = width
            built.append(blocks)
        self.stages = built
        self.fc = Linear(channels, classes, rngs=rngs)

    def __call__(
        self, inputs: Features, *, tap: Tap = no_tap, rules: Rules = PLAIN
    ) -> tuple[Float[Array, "N classes"], Activations]:
        """(N, H, W, 3) to logits (N, classes) and the activations of the blocks."""
        features = rules.relu(self.stem(inputs, rules.first))
        activations: Activations = OrderedDict()
        for stage, blocks in enumerate(self.stages, start=1):
            for index, block in enumerate(blocks, start=1):
                name = f"s{stage}.b{index}"
                features = activations[name] = tap(name, block(features, rules))
        return self.fc(rules.average(mean_pool, features), rules.dense), activations


def torch_names(path: str) -> tuple[str, str | None]:
    """Names in timm of the convolution at `path` and of the batch norm behind it."""
    if path == "fc":
        return "head.fc", None
    path = re.sub(r"^stages\.(\d+)\.(\d+)", lambda m: f"s{int(m[1]) + 1}.b{int(m[2]) + 1}", path)
    if ".se." in path:
        return path.replace(".reduce", ".fc1").replace(".expand", ".fc2"), None
    return f"{path}.conv", f"{path}.bn"


_PARTS = {"f.a": "conv1", "f.b": "conv2", "f.c": "conv3", "f.se": "se", "proj": "downsample"}


def renamed(name: str) -> str:
    """An entry's name as timm has it, from torchvision's or transformers'."""
    part = hugging_face_names.part(name)
    if part is not None:
        return f"{_hugging_face(part)}.{part.leaf}"
    name = hugging_face_names.dense(re.sub(r"^fc\.", "head.fc.", name), "head.fc")
    match = re.match(
        r"(?:trunk_output\.block(\d+)\.block\d+-(\d+)\.(f\.[abc]|f\.se|proj)|(stem))\.(0|1|fc[12])\.", name
    )
    if not match:
        return name
    stage, block, part, stem, leaf = match.groups()
    module = stem or f"s{stage}.b{int(block) + 1}.{_PARTS[part]}"
    return f"{module}.{ {'0': 'conv', '1': 'bn'}.get(leaf, leaf) }.{name[match.end() :]}"


def _hugging_face(part: hugging_face_names.Part) -> str:
    names = {"convolution": "conv", "normalization": "bn", "attention.0": "se.fc1", "attention.2": "se.fc2"}
    inner = names[part.module]
    if part.block is None:
        return f"stem.{inner}"
    block = f"s{part.block[0] + 1}.b{part.block[1] + 1}"
    if part.module.startswith("attention"):
        return f"{block}.{inner}"
    # The gate of Y takes the third place, before the last convolution.
    return f"{block}.downsample.{inner}" if part.place is None else f"{block}.conv{min(part.place, 2) + 1}.{inner}"


def canonical(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict by timm's names."""
    return {renamed(name): array for name, array in arrays.items()}


VARIANTS = {
    # depth, initial width, slope, step, channels of a group
    "x_400mf": (22, 24, 24.48, 2.54, 16), "x_800mf": (16, 56, 35.73, 2.28, 16), "x_1_6gf": (18, 80, 34.01, 2.25, 24),
    "x_3_2gf": (25, 88, 26.31, 2.25, 48), "x_8gf": (23, 80, 49.56, 2.88, 120), "x_16gf": (22, 216, 55.59, 2.1, 128),
    "x_32gf": (23, 320, 69.86, 2.0, 168), "y_400mf": (16, 48, 27.89, 2.09, 8), "y_800mf": (14, 56, 38.84, 2.4, 16),
    "y_1_6gf": (27, 48, 20.71, 2.65, 24), "y_3_2gf": (21, 80, 42.63, 2.66, 24), "y_8gf": (17, 192, 76.82, 2.19, 56),
    "y_16gf": (18, 200, 106.23, 2.48, 112), "y_32gf": (20, 232, 115.89, 2.53, 232),
    "y_128gf": (27, 456, 160.83, 2.52, 264),
}  # fmt: skip
