"""DenseNet: each layer reads all that the layers before it in its block have made.

Batch norm and ReLU stand before the convolutions, so what is handed on has been through neither. What FEM sees is the
ReLU between the two convolutions of each layer, and what the next part reads of a whole block, behind its ReLU.

Source: Huang et al., Densely Connected Convolutional Networks (2017), section 3 (DenseNet-BC).
"""

import re
from collections import OrderedDict
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.base import Activations
from mlfem_jax.backbones.hooks import PLAIN, Rules, Tap, no_tap
from mlfem_jax.backbones.networks.batch_norm import Norm
from mlfem_jax.backbones.networks.layers import Conv, Features, Linear, max_pool, mean_pool
from mlfem_jax.backbones.networks.parts import BatchNorm, window_means

VARIANTS = {
    # channels that a layer adds, layers of the four blocks, channels of the first convolution
    "121": (32, (6, 12, 24, 16), 64),
    "161": (48, (6, 12, 36, 24), 96),
    "169": (32, (6, 12, 32, 32), 64),
    "201": (32, (6, 12, 48, 32), 64),
}


class DenseLayer(nnx.Module):
    """Batch norm, ReLU, 1x1 convolution, batch norm, ReLU, 3x3 convolution."""

    def __init__(self, channels: int, growth: int, *, rngs, norm: Norm | None):
        """From `channels` to `growth`, with 4 `growth` between."""
        self.norm1 = BatchNorm(channels, norm=norm)
        self.conv1 = Conv(channels, 4 * growth, 1, norm=norm, rngs=rngs)
        self.conv2 = Conv(4 * growth, growth, 3, bias=False, rngs=rngs)

    def __call__(self, inputs: Features, name: str, tap: Tap, rules: Rules) -> tuple[Features, Features]:
        """The new channels, and the activation between the convolutions, called `name`."""
        features = rules.relu(self.norm1(inputs, rules.conv))
        inner = tap(name, rules.relu(self.conv1(features, rules.conv)))
        return self.conv2(inner, rules.conv), inner


class DenseNet(nnx.Module):
    """The activations are "denseblock1.denselayer1", ..., "transition1", "denseblock2.denselayer1", ..., "norm5"."""

    def __init__(
        self, growth: int, depths: tuple[int, ...], first: int, *, classes: int, rngs, norm: Norm | None = None
    ):
        """`depths` holds the layers of each block; `first` the channels of the first convolution."""
        self.conv0 = Conv(3, first, 7, stride=2, norm=norm, rngs=rngs)
        channels, self.depths, parts = first, depths, nnx.Dict()
        for number, depth in enumerate(depths, start=1):
            block = nnx.Dict()
            for index in range(1, depth + 1):
                block[f"denselayer{index}"] = DenseLayer(channels, growth, norm=norm, rngs=rngs)
                channels += growth
            parts[f"denseblock{number}"] = block
            if number < len(depths):
                shrink = Conv(channels, channels // 2, 1, bias=False, rngs=rngs)
                parts[f"transition{number}"] = nnx.Dict(norm=BatchNorm(channels, norm=norm), conv=shrink)
                channels //= 2
        self.features = parts
        self.norm5 = BatchNorm(channels, norm=norm)
        self.classifier = Linear(channels, classes, rngs=rngs)

    def __call__(
        self, inputs: Features, *, tap: Tap = no_tap, rules: Rules = PLAIN
    ) -> tuple[Float[Array, "N classes"], Activations]:
        """(N, H, W, 3) to logits (N, classes) and the activations."""
        features = rules.max_pool(_pooled, rules.relu(self.conv0(inputs, rules.first)))
        activations: Activations = OrderedDict()
        for number, depth in enumerate(self.depths, start=1):
            block = self.features[f"denseblock{number}"]
            for index in range(1, depth + 1):
                name = f"denseblock{number}.denselayer{index}"
                new, activations[name] = block[f"denselayer{index}"](features, name, tap, rules)
                features = jnp.concatenate([features, new], axis=-1)
            last = number == len(self.depths)
            name = "norm5" if last else f"transition{number}"
            norm = self.norm5 if last else self.features[name]["norm"]
            features = activations[name] = tap(name, rules.relu(norm(features, rules.conv)))
            if not last:
                features = self.features[name]["conv"](features, rules.conv)
                features = rules.average(_halved, features)
        return self.classifier(rules.average(mean_pool, features), rules.dense), activations


def _pooled(features: Features) -> Features:
    return max_pool(features, size=3, stride=2, padding=1)


def _halved(features: Features) -> Features:
    return window_means(features, size=2, stride=2)


def torch_names(path: str) -> tuple[str | None, str | None]:
    """State-dict names of the convolution at `path` and of the batch norm behind it (torchvision's and timm's)."""
    if path == "classifier":
        return path, None
    path = path if path.startswith("features.") else f"features.{path}"
    behind = {"conv0": "norm0", "conv1": "norm2"}
    outer, _, last = path.rpartition(".")
    if last.startswith("norm"):
        return None, path
    return path, f"{outer}.{behind[last]}" if last in behind else None


def renamed(name: str) -> str:
    """An entry's name as it is today: the published files of torchvision have "norm.1" for "norm1"."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)


def canonical(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict by today's names."""
    return {renamed(name): array for name, array in arrays.items()}
