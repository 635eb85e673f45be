"""ResNet-18/34/50/101/152 as torchvision has them (v1.5: the stride is in the 3x3 convolution of a bottleneck)."""

import functools
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.base import Activations
from mlfem_jax.backbones.hooks import PLAIN, Rules, Tap, no_tap
from mlfem_jax.backbones.networks import hugging_face_names
from mlfem_jax.backbones.networks.batch_norm import Norm
from mlfem_jax.backbones.networks.layers import Conv, Features, Linear, max_pool, mean_pool
from mlfem_jax.backbones.networks.once import computed_once


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, *, stride: int, rngs, norm: Norm | None = None):
        """`width` channels out."""
        self.conv1 = Conv(channels_in, width, 3, stride=stride, norm=norm, rngs=rngs)
        self.conv2 = Conv(width, width, 3, norm=norm, rngs=rngs)
        self.downsample = _shortcut(channels_in, width, stride, norm, rngs)
        self.norm = norm

    def __call__(self, inputs: Features, rules: Rules = PLAIN) -> Features:
        """The sum of both paths after its ReLU."""
        shortcut = inputs if self.downsample is None else self.downsample(inputs, rules.conv)
        inner = rules.relu(self.conv1(inputs, rules.conv))

        def end(inner, shortcut):
            return rules.relu(rules.add(self.conv2(inner, rules.conv), shortcut))

        return computed_once(end, inner, shortcut, norm=self.norm)


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut."""

    expansion = 4

    def __init__(
        self, channels_in: int, width: int, *, stride: int, rngs, stride_first: bool = False, norm: Norm | None = None
    ):
        """4 `width` channels out; the stride is in the 3x3 convolution (v1.5) or in the first 1x1 (v1)."""
        strides = (stride, 1) if stride_first else (1, stride)
        self.conv1 = Conv(channels_in, width, 1, stride=strides[0], norm=norm, rngs=rngs)
        self.conv2 = Conv(width, width, 3, stride=strides[1], norm=norm, rngs=rngs)
        self.conv3 = Conv(width, 4 * width, 1, norm=norm, rngs=rngs)
        self.downsample = _shortcut(channels_in, 4 * width, stride, norm, rngs)
        self.norm = norm

    def __call__(self, inputs: Features, rules: Rules = PLAIN) -> Features:
        """The sum of both paths after its ReLU."""
        shortcut = inputs if self.downsample is None else self.downsample(inputs, rules.conv)
        inner = rules.relu(self.conv1(inputs, rules.conv))
        inner = rules.relu(self.conv2(inner, rules.conv))

        def end(inner, shortcut):
            return rules.relu(rules.add(self.conv3(inner, rules.conv), shortcut))

        return computed_once(end, inner, shortcut, norm=self.norm)


def _shortcut(channels_in: int, channels_out: int, stride: int, norm: Norm | None, rngs) -> Conv | None:
    """A 1x1 convolution where the block changes the shape, else nothing."""
    if stride == 1 and channels_in == channels_out:
        return None
    return Conv(channels_in, channels_out, 1, stride=stride, norm=norm, rngs=rngs)


class ResNet(nnx.Module):
    """The activations are the outputs of the residual blocks after the last ReLU: "layer1.0", "layer1.1", ..."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        *,
        classes: int,
        rngs,
        norm: Norm | None = None,
        **options,
    ):
        """`depths` holds the number of blocks of each of the four stages; `options` go to every block."""
        self.conv1 = Conv(3, 64, 7, stride=2, norm=norm, rngs=rngs)
        channels = 64
        for stage, depth in enumerate(depths):
            width, blocks = 64 * 2**stage, nnx.List()
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(channels, width, stride=stride, norm=norm, rngs=rngs, **options))
                channels = width * block.expansion
            setattr(self, f"layer{stage + 1}", blocks)
        self.fc = Linear(channels, classes, rngs=rngs)

    def __call__(
        self, inputs: Features, *, tap: Tap = no_tap, rules: Rules = PLAIN
    ) -> tuple[Float[Array, "N classes"], Activations]:
        """(N, H, W, 3) to logits (N, classes) and the activations of the blocks."""
        features = rules.relu(self.conv1(inputs, rules.first))
        features = rules.max_pool(functools.partial(max_pool, size=3, stride=2, padding=1), features)
        activations = OrderedDict()
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            for index, block in enumerate(getattr(self, stage)):
                name = f"{stage}.{index}"
                features = activations[name] = tap(name, block(features, rules))
        return self.fc(rules.average(mean_pool, features), rules.dense), activations


def torch_names(path: str) -> tuple[str, str | None]:
    """State-dict names of the convolution at `path` and of the batch norm behind it (torchvision's and timm's)."""
    if path == "fc":
        return path, None
    if path.endswith("downsample"):
        return f"{path}.0", f"{path}.1"
    return path, path.replace("conv", "bn")


def renamed(name: str) -> str:
    """An entry's name as torchvision and timm have it, from transformers'."""
    part = hugging_face_names.part(name)
    if part is None:
        return hugging_face_names.dense(name, "fc")
    behind = part.module == "normalization"
    if part.block is None:
        return f"{'bn1' if behind else 'conv1'}.{part.leaf}"
    stage, index = part.block
    module = f"downsample.{int(behind)}" if part.place is None else f"{'bn' if behind else 'conv'}{part.place + 1}"
    return f"layer{stage + 1}.{index}.{module}.{part.leaf}"


def canonical(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict by the names of torchvision and timm."""
    return {renamed(name): array for name, array in arrays.items()}
