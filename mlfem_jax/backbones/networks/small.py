"""A small convolutional network over one to three axes: what is trained here on recordings, from scratch."""

from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mlfem_jax.backbones.base import Activations
from mlfem_jax.backbones.hooks import Tap, no_tap
from mlfem_jax.upsampling import Grid

HEAD = "fc"
_WIDTHS = (16, 32, 32)
_STRIDES = (1, 2, 2)
_KERNELS = {1: 7, 2: 5, 3: 3}
_DIMENSIONS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def shapes(input_shape: tuple[int, ...], classes: int) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of the parameters.

    Args:
        input_shape: of an example, channels last.
        classes: number of logits.

    Example:
        >>> shapes((150, 1), 3)["conv1"]["kernel"], shapes((150, 1), 3)["fc"]["kernel"]
        ((7, 1, 16), (32, 3))
    """
    axes, before = len(input_shape) - 1, input_shape[-1]
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for number, width in enumerate(_WIDTHS, start=1):
        found[f"conv{number}"] = {"kernel": (_KERNELS[axes],) * axes + (before, width), "bias": (width,)}
        before = width
    return found | {HEAD: {"kernel": (before, classes), "bias": (classes,)}}


def grids(axes: int) -> dict[str, Grid]:
    """Where the positions of each layer lie: at every, every second, every fourth sample.

    Example:
        >>> grids(1)["conv3"]
        Grid(stride=(4.0,), offset=(0.0,))
    """
    found, grid = {}, Grid.of_input(axes)
    for number, stride in enumerate(_STRIDES, start=1):
        grid = grid.behind(_KERNELS[axes], stride=stride, padding=_KERNELS[axes] // 2)
        found[f"conv{number}"] = grid
    return found


def initial(key: Key[Array, ""], input_shape: tuple[int, ...], classes: int) -> dict[str, dict[str, Any]]:
    """He's initialization, no bias.

    Args:
        key: random.
        input_shape: see `shapes`.
        classes: see `shapes`.
    """
    wanted = shapes(input_shape, classes)
    keys = dict(zip(wanted, jax.random.split(key, len(wanted)), strict=True))
    draw = jax.nn.initializers.he_normal()
    return {
        name: {"kernel": draw(keys[name], layer["kernel"], jnp.float32), "bias": jnp.zeros(layer["bias"], jnp.float32)}
        for name, layer in wanted.items()
    }


def apply(
    params: dict[str, dict[str, Any]], inputs: Float[Array, "N ... C"], *, tap: Tap = no_tap
) -> tuple[Float[Array, "N classes"], Activations]:
    """Convolutions, each with a ReLU, a mean over all positions and a dense layer; the layers are behind the ReLUs.

    Args:
        params: of the shapes that `shapes` gives, in the dtype of the inputs.
        inputs: (N, *S, C).
        tap: see `Backbone.apply`.
    """
    axes, features, activations = inputs.ndim - 2, inputs, OrderedDict()
    for number, stride in enumerate(_STRIDES, start=1):
        layer = params[f"conv{number}"]
        margin = _KERNELS[axes] // 2
        features = jax.lax.conv_general_dilated(
            features,
            layer["kernel"],
            (stride,) * axes,
            [(margin, margin)] * axes,
            dimension_numbers=_DIMENSIONS[axes],
        )
        features = jax.nn.relu(features + layer["bias"].reshape(*[1] * (axes + 1), -1))
        features = activations[f"conv{number}"] = tap(f"conv{number}", features)
    means = features.mean(axis=tuple(range(1, axes + 1)))
    return means @ params[HEAD]["kernel"] + params[HEAD]["bias"][None], activations
