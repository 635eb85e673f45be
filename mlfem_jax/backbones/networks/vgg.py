"""VGG-16 and VGG-19, plain and with batch norm, as torchvision has them."""

import functools
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.base import Activations
from mlfem_jax.backbones.hooks import PLAIN, Rules, Tap, no_tap
from mlfem_jax.backbones.networks.batch_norm import Norm
from mlfem_jax.backbones.networks.layers import Conv, Features, Linear, adaptive_mean_pool, max_pool


class VGG(nnx.Module):
    """The activations are the outputs of the convolutions after their ReLU: "conv1_1", "conv1_2", ..., "conv5_3"."""

    def __init__(self, depths: tuple[int, ...], *, classes: int, rngs, norm: Norm | None = None):
        """`depths` holds the number of convolutions of each of the five stages."""
        channels = 3
        self.convs = nnx.Dict()
        for stage, depth in enumerate(depths, start=1):
            for index in range(1, depth + 1):
                width = min(64 * 2 ** (stage - 1), 512)
                self.convs[f"conv{stage}_{index}"] = Conv(channels, width, 3, norm=norm, rngs=rngs)
                channels = width
        self.fc1 = Linear(7 * 7 * channels, 4096, rngs=rngs)
        self.fc2 = Linear(4096, 4096, rngs=rngs)
        self.fc3 = Linear(4096, classes, rngs=rngs)
        self.depths = depths

    def __call__(
        self, inputs: Features, *, tap: Tap = no_tap, rules: Rules = PLAIN
    ) -> tuple[Float[Array, "N classes"], Activations]:
        """(N, H, W, 3) to logits (N, classes) and the activations of the convolutions."""
        features, activations = inputs, OrderedDict()
        for stage, depth in enumerate(self.depths, start=1):
            for index in range(1, depth + 1):
                name = f"conv{stage}_{index}"
                affine = rules.first if name == "conv1_1" else rules.conv
                features = activations[name] = tap(name, rules.relu(self.convs[name](features, affine)))
            features = rules.max_pool(functools.partial(max_pool, size=2, stride=2), features)
        features = rules.average(functools.partial(adaptive_mean_pool, size=7), features)
        flat = features.reshape(features.shape[0], -1)
        hidden = rules.relu(self.fc1(flat, rules.dense))
        hidden = rules.relu(self.fc2(hidden, rules.dense))
        return self.fc3(hidden, rules.dense), activations


def torch_names(path: str, *, depths: tuple[int, ...], norm: bool) -> tuple[str, str | None]:
    """State-dict names of the layer at `path` and of its batch norm: torchvision numbers one flat list."""
    if path.startswith("fc"):
        return f"classifier.{3 * (int(path[2:]) - 1)}", None
    stage, index = (int(number) for number in path.removeprefix("convs.conv").split("_"))
    modules = 3 if norm else 2
    first = sum(modules * depth + 1 for depth in depths[: stage - 1])
    place = first + modules * (index - 1)
    return f"features.{place}", f"features.{place + 1}" if norm else None


def canonical(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict as `torch_names` wants it, from torchvision's or timm's.

    timm keeps the dense layers as convolutions under other names. The first of them reads channel, row, column, and
    ours row, column, channel.
    """
    renamed = dict(_torchvision_entry(name, array) for name, array in arrays.items())
    first = renamed.get("classifier.0.weight")
    if first is not None and first.ndim == 2 and first.shape[1] % 49 == 0:
        planes = first.reshape(len(first), -1, 7, 7)
        renamed["classifier.0.weight"] = planes.transpose(0, 2, 3, 1).reshape(first.shape)
    return renamed


def torchvision_form(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict as torchvision has it, from the one that `torch_names` names: the inverse of `canonical`."""
    first = arrays["classifier.0.weight"]
    planes = first.reshape(len(first), 7, 7, -1).transpose(0, 3, 1, 2)
    return {**arrays, "classifier.0.weight": planes.reshape(first.shape)}


def _torchvision_entry(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    timm = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
    module, _, leaf = name.rpartition(".")
    if module not in timm:
        return name, array
    return f"{timm[module]}.{leaf}", array.reshape(len(array), -1) if leaf == "weight" else array
