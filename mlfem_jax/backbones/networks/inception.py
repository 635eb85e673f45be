"""Inception v3: several convolutions of different size side by side, their outputs one behind the other.

What FEM sees is the output of each of these modules, all of it behind ReLUs.

Source: Szegedy et al., Rethinking the Inception Architecture (2016), figures 5 to 7 and 10, table 1.
"""

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
from mlfem_jax.backbones.networks.parts import window_means

Branch = tuple
"""What follows each other: "mean" or "max", a pool; (name, width, size) or (name, width, size, stride), a convolution;
a tuple of those, side by side."""


def module_a(pooled: int) -> tuple[Branch, ...]:
    """Figure 5, with `pooled` channels behind the pool."""
    return (
        (("branch1x1", 64, 1),),
        (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
        ("mean", ("branch_pool", pooled, 1)),
    )


def module_c(inner: int) -> tuple[Branch, ...]:
    """Figure 6, n = 7, with `inner` channels inside."""
    tall, wide, double = (7, 1), (1, 7), "branch7x7dbl"
    return (
        (("branch1x1", 192, 1),),
        (("branch7x7_1", inner, 1), ("branch7x7_2", inner, wide), ("branch7x7_3", 192, tall)),
        ((f"{double}_1", inner, 1), (f"{double}_2", inner, tall), (f"{double}_3", inner, wide),
         (f"{double}_4", inner, tall), (f"{double}_5", 192, wide)),
        ("mean", ("branch_pool", 192, 1)),
    )  # fmt: skip


MODULE_B = (
    (("branch3x3", 384, 3, 2),),
    (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)),
    ("max",),
)
MODULE_D = (
    (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)),
    (("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)),
     ("branch7x7x3_4", 192, 3, 2)),
    ("max",),
)  # fmt: skip
MODULE_E = (
    (("branch1x1", 320, 1),),
    (("branch3x3_1", 384, 1), (("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1)))),
    (("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3),
     (("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1)))),
    ("mean", ("branch_pool", 192, 1)),
)  # fmt: skip
MODULES = {
    "Mixed_5b": module_a(32), "Mixed_5c": module_a(64), "Mixed_5d": module_a(64), "Mixed_6a": MODULE_B,
    "Mixed_6b": module_c(128), "Mixed_6c": module_c(160), "Mixed_6d": module_c(160), "Mixed_6e": module_c(192),
    "Mixed_7a": MODULE_D, "Mixed_7b": MODULE_E, "Mixed_7c": MODULE_E,
}  # fmt: skip
STEM = {
    "Conv2d_1a_3x3": (32, 3, 2, "valid"),
    "Conv2d_2a_3x3": (32, 3, 1, "valid"),
    "Conv2d_2b_3x3": (64, 3, 1, "symmetric"),
    "Conv2d_3b_1x1": (80, 1, 1, "valid"),
    "Conv2d_4a_3x3": (192, 3, 1, "valid"),
}
"""Width, size, stride and padding; a max pool follows the third and the last."""
POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")


class Mixed(nnx.Module):
    """Branches side by side."""

    def __init__(self, channels: int, branches: tuple[Branch, ...], *, rngs, norm: Norm | None):
        """From `channels`; `width` is how many come out."""
        self.convs, self.branches, self.width = nnx.Dict(), branches, 0
        for branch in branches:
            width = channels
            for part in branch:
                if isinstance(part, str):
                    continue
                beside = part if isinstance(part[0], tuple) else (part,)
                for name, out, size, *stride in beside:
                    padding = "valid" if stride else "symmetric"
                    shape = {"stride": stride[0] if stride else 1, "norm": norm, "rngs": rngs}
                    self.convs[name] = Conv(width, out, size, padding=padding, **shape)
                width = sum(each[1] for each in beside)
            self.width += width

    def __call__(self, inputs: Features, rules: Rules = PLAIN) -> Features:
        """The branches' outputs, one behind the other."""
        return jnp.concatenate([self._branch(branch, inputs, rules) for branch in self.branches], axis=-1)

    def _branch(self, branch: Branch, features: Features, rules: Rules) -> Features:
        for part in branch:
            if part == "mean":
                features = rules.average(_blurred, features)
            elif part == "max":
                features = rules.max_pool(_pooled, features)
            else:
                beside = part if isinstance(part[0], tuple) else (part,)
                outputs = [rules.relu(self.convs[name](features, rules.conv)) for name, *_ in beside]
                features = jnp.concatenate(outputs, axis=-1) if len(outputs) > 1 else outputs[0]
        return features


def _pooled(features: Features) -> Features:
    return max_pool(features, size=3, stride=2)


def _blurred(features: Features) -> Features:
    return window_means(features, size=3, stride=1, padding=1)


class Inception(nnx.Module):
    """The activations are the outputs of the modules: "Mixed_5b" to "Mixed_7c"."""

    def __init__(
        self, modules: Mapping[str, tuple[Branch, ...]] = MODULES, *, classes: int, rngs, norm: Norm | None = None
    ):
        """`modules` are the branches of each module, by its name."""
        channels, self.stem, self.mixed = 3, nnx.Dict(), nnx.Dict()
        for name, (width, size, stride, padding) in STEM.items():
            self.stem[name] = Conv(channels, width, size, stride=stride, padding=padding, norm=norm, rngs=rngs)
            channels = width
        for name, branches in modules.items():
            self.mixed[name] = Mixed(channels, branches, norm=norm, rngs=rngs)
            channels = self.mixed[name].width
        self.names = tuple(modules)
        self.fc = Linear(channels, classes, rngs=rngs)

    def __call__(
        self, inputs: Features, *, tap: Tap = no_tap, rules: Rules = PLAIN
    ) -> tuple[Float[Array, "N classes"], Activations]:
        """(N, H, W, 3) to logits (N, classes) and the activations of the modules."""
        features = inputs
        for name in STEM:
            affine = rules.first if name == "Conv2d_1a_3x3" else rules.conv
            features = rules.relu(self.stem[name](features, affine))
            features = rules.max_pool(_pooled, features) if name in POOLED else features
        activations: Activations = OrderedDict()
        for name in self.names:
            features = activations[name] = tap(name, self.mixed[name](features, rules))
        return self.fc(rules.average(mean_pool, features), rules.dense), activations


def torch_names(path: str) -> tuple[str, str | None]:
    """State-dict names of the convolution at `path` and of the batch norm behind it (torchvision's and timm's)."""
    if path == "fc":
        return path, None
    place = path.removeprefix("stem.").removeprefix("mixed.").replace(".convs.", ".")
    return f"{place}.conv", f"{place}.bn"


def canonical(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict without the second head, which only training needs."""
    return {name: array for name, array in arrays.items() if not name.startswith("AuxLogits.")}
