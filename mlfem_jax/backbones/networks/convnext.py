"""ConvNeXt, V1 and V2: convolutions in the form that transformers gave to networks.

A block filters each channel by 7x7, normalizes, and passes each position through a small network; what FEM sees is its
output, which no non-linearity follows. In V2 the small network makes the channels compete (global response
normalization) and the layer scale is gone.

Source: Liu et al., A ConvNet for the 2020s (2022), section 2; Woo et al., ConvNeXt V2 (2023), equations 1 to 3.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.base import Activations
from mlfem_jax.backbones.hooks import PLAIN, Rules, Tap, no_tap
from mlfem_jax.backbones.networks.batch_norm import Norm
from mlfem_jax.backbones.networks.layers import Conv, Features, Linear, mean_pool
from mlfem_jax.backbones.networks.parts import LayerNorm, exact_gelu, scale_channels

EPSILON = 1e-6
VARIANTS = {
    # depths and widths of the four stages
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
    "huge": ((3, 3, 27, 3), (352, 704, 1408, 2816)),
}


class ResponseNorm(nnx.Module):
    """Global response normalization: channels that respond more than others are strengthened."""

    def __init__(self, channels: int):
        """Without any effect at first."""
        self.weight, self.bias = (nnx.Param(jnp.zeros((channels,), jnp.float32)) for _ in range(2))

    def __call__(self, inputs: Features) -> Features:
        """The same shape; norms in float32."""
        wide = inputs.astype(jnp.float32)
        response = jnp.sqrt((wide * wide).sum(axis=(1, 2), keepdims=True))
        share = (response / (response.mean(axis=-1, keepdims=True) + EPSILON)).astype(inputs.dtype)
        weight, bias = (leaf[...][None, None, None] for leaf in (self.weight, self.bias))
        return inputs + weight * (inputs * share) + bias


class Mlp(nnx.Module):
    """Two dense layers at each position."""

    def __init__(self, width: int, *, rngs, response: bool):
        """Four times as wide inside; with `response`, channels compete there (V2)."""
        self.fc1 = Linear(width, 4 * width, rngs=rngs)
        self.grn = ResponseNorm(4 * width) if response else None
        self.fc2 = Linear(4 * width, width, rngs=rngs)

    def __call__(self, inputs: Features, rules: Rules) -> Features:
        """The same shape."""
        inner = rules.gelu(exact_gelu, self.fc1(inputs, rules.dense))
        inner = inner if self.grn is None else rules.gelu(self.grn, inner)
        return self.fc2(inner, rules.dense)


class Block(nnx.Module):
    """A depthwise 7x7 convolution, a layer norm, an MLP, and the shortcut."""

    def __init__(self, width: int, *, rngs, response: bool):
        """With `response` that of V2."""
        self.conv_dw = Conv(width, width, 7, groups=width, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=EPSILON)
        self.mlp = Mlp(width, rngs=rngs, response=response)
        self.gamma = None if response else nnx.Param(jnp.full((width,), 1e-6, jnp.float32))

    def __call__(self, inputs: Features, rules: Rules) -> Features:
        """The same shape; the sum has no non-linearity behind it."""
        change = self.mlp(self.norm(self.conv_dw(inputs, rules.conv), rules), rules)
        change = change if self.gamma is None else scale_channels(change, self.gamma[...], rules)
        return rules.add(inputs, change)


class Stage(nnx.Module):
    """Blocks of one width, behind a layer norm and a 2x2 convolution of stride 2 where the width changes."""

    def __init__(self, channels_in: int, width: int, depth: int, *, rngs, response: bool):
        """`depth` blocks."""
        self.downsample = nnx.List([])
        if channels_in != width:
            shrink = Conv(channels_in, width, 2, stride=2, padding="valid", rngs=rngs)
            self.downsample = nnx.List([LayerNorm(channels_in, epsilon=EPSILON), shrink])
        self.blocks = nnx.List([Block(width, rngs=rngs, response=response) for _ in range(depth)])


class ConvNeXt(nnx.Module):
    """The activations are the outputs of the blocks: "stages.0.blocks.0", "stages.0.blocks.1", ..."""

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        *,
        classes: int,
        rngs,
        response: bool = False,
        norm: Norm | None = None,
    ):
        """`depths` and `widths` of the stages; `norm` is None, for there is no batch norm."""
        stem = Conv(3, widths[0], 4, stride=4, padding="valid", rngs=rngs)
        self.stem: nnx.List[Any] = nnx.List([stem, LayerNorm(widths[0], epsilon=EPSILON)])
        stages, channels = nnx.List(), widths[0]
        for depth, width in zip(depths, widths, strict=True):
            stages.append(Stage(channels, width, depth, rngs=rngs, response=response))
            channels = width
        self.stages = stages
        self.head: nnx.Dict[Any] = nnx.Dict(
            norm=LayerNorm(channels, epsilon=EPSILON), fc=Linear(channels, classes, rngs=rngs)
        )

    def __call__(
        self, inputs: Features, *, tap: Tap = no_tap, rules: Rules = PLAIN
    ) -> tuple[Float[Array, "N classes"], Activations]:
        """(N, H, W, 3) to logits (N, classes) and the activations of the blocks."""
        stem, norm = self.stem
        features = norm(stem(inputs, rules.first), rules)
        activations: Activations = OrderedDict()
        for number, stage in enumerate(self.stages):
            if stage.downsample:
                norm, shrink = stage.downsample
                features = shrink(norm(features, rules), rules.conv)
            for index, block in enumerate(stage.blocks):
                name = f"stages.{number}.blocks.{index}"
                features = activations[name] = tap(name, block(features, rules))
        pooled = self.head["norm"](rules.average(mean_pool, features), rules)
        return self.head["fc"](pooled, rules.dense), activations


_RENAMED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        # torchvision: stages and what lies between them take turns.
        (r"^features\.0\.([01])\.", r"stem.\1."),
        (r"^features\.([1357])\.(\d+)\.block\.0\.", r"stages.\1.blocks.\2.conv_dw."),
        (r"^features\.([1357])\.(\d+)\.block\.2\.", r"stages.\1.blocks.\2.norm."),
        (r"^features\.([1357])\.(\d+)\.block\.3\.", r"stages.\1.blocks.\2.mlp.fc1."),
        (r"^features\.([1357])\.(\d+)\.block\.5\.", r"stages.\1.blocks.\2.mlp.fc2."),
        (r"^features\.([1357])\.(\d+)\.layer_scale$", r"stages.\1.blocks.\2.gamma"),
        (r"^features\.([246])\.([01])\.", r"stages.\1.downsample.\2."),
        (r"^classifier\.0\.", "head.norm."),
        (r"^classifier\.2\.", "head.fc."),
        # The authors' files.
        (r"^downsample_layers\.0\.", "stem."),
        (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
        (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
        # transformers.
        (r"^embeddings\.patch_embeddings\.", "stem.0."),
        (r"^embeddings\.layernorm\.", "stem.1."),
        (r"^encoder\.stages\.(\d)\.layers\.(\d+)\.", r"stages.\1.blocks.\2."),
        (r"^encoder\.stages\.(\d)\.downsampling_layer\.", r"stages.\1.downsample."),
        (r"\.layernorm\.", ".norm."),
        (r"\.layer_scale_parameter$", ".gamma"),
        (r"^classifier\.", "head.fc."),
        (r"^(layernorm|norm)\.", "head.norm."),
        # Both.
        (r"\.dwconv\.", ".conv_dw."),
        (r"\.pwconv([12])\.", r".mlp.fc\1."),
        (r"\.grn\.(gamma|weight)$", ".mlp.grn.weight"),
        (r"\.grn\.(beta|bias)$", ".mlp.grn.bias"),
        (r"\.mlp\.mlp\.", ".mlp."),
        (r"^head\.(weight|bias)$", r"head.fc.\1"),
    ]
]


def renamed(name: str) -> str:
    """An entry's name as timm has it, from torchvision's, the authors' or transformers'."""
    name = name.removeprefix("convnext.").removeprefix("convnextv2.")
    torchvision = re.match(r"features\.([1-7])\.", name)
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    if torchvision:
        stage = int(torchvision[1]) // 2
        name = re.sub(r"^stages\.\d", f"stages.{stage}", name)
    return name


def canonical(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict by timm's names; what others keep as (C, 1, 1) or (1, 1, 1, C) has one axis."""
    found = {renamed(name): array for name, array in arrays.items()}
    flat = re.compile(r"(\.gamma|\.grn\.(weight|bias))$")
    dense = re.compile(r"\.mlp\.fc[12]\.weight$")  # some of timm's are 1x1 convolutions
    for name, array in found.items():
        if flat.search(name):
            found[name] = array.reshape(-1)
        elif dense.search(name) and array.ndim == 4:
            found[name] = array.reshape(array.shape[:2])
    return found
