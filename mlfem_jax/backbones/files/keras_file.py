"""Keras weight files: their arrays, and their names as torchvision has them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlfem_jax.files import open_hdf5, read_datasets, read_names, shown

_TORCH_LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_LEAVES = {"bn": ("gamma", "beta", "moving_mean", "moving_variance")}
_KINDS = {"conv2d": "conv", "batch_normalization": "bn"}


def read_keras_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a Keras weight file, called "layer/kernel".

    Read are weights or a whole model saved to `.h5` (the layout of Keras 1 and 2, and of the files of
    `keras.applications`), which list their layers by name, and Keras 3's `.weights.h5`, where a layer is
    called by its kind and its arrays are numbered: "layers/conv2d_1/vars/0" becomes "conv2d_1/0".

    Args:
        path: the HDF5 file.

    Returns:
        Arrays by name, in Keras' axis order: kernels are (height, width, in, out) or (in, out).

    Raises:
        ValueError: no Keras file, or a damaged one. Errors of h5py pass: the caller names the file.
    """
    present = path.stat().st_size
    with open_hdf5(path) as (groups, datasets):
        root = "model_weights" if "model_weights" in groups else ""
        attributes = groups[root].attrs
        listed = "layer_names" in attributes or "layer_names0" in attributes
        pairs = _listed(groups, datasets, root, present) if listed else _numbered(datasets)
        chosen = dict(pairs)
        if len(chosen) != len(pairs) or not chosen:
            raise ValueError(f"expected one name for each array, got {len(pairs)} arrays under {len(chosen)} names")
        return read_datasets(chosen, present)


def torch_resnet(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a Keras ResNet as a torchvision state dict, in which convolutions have a bias too.

    The networks still differ: Keras puts the stride of a bottleneck into its first 1x1 convolution (v1), its
    batch norms have epsilon 1.001e-5, and it was trained on BGR pixels in 0..255 less their means. A file of Keras 3
    numbers the layers of each kind in their order; those of a ResNet-50 get their names back.

    Args:
        arrays: as `read_keras_file` returns them, "conv2_block1_0_conv/kernel" or "conv2d_3/0" and so on.

    Returns:
        The arrays by torchvision's names, in torch's axis order; an array without a Keras name ("layer/weight") is
        one of a state dict already, and is kept as it is.
    """
    layers = dict(_resnet50_layers()) if "conv2d/0" in arrays else {}
    named = {_layer_name(name, layers): array for name, array in arrays.items()}
    return {_torch_name(name): _torch_axes(array) if "/" in name else array for name, array in named.items()}


def _resnet50_layers() -> Iterator[tuple[str, str]]:
    """(number, name) of the layers with arrays, in the order in which Keras keeps them."""
    blocks = ["conv1"]
    for stage, depth in enumerate((3, 4, 6, 3), start=2):
        for block in range(1, depth + 1):
            # The shortcut's convolution stands between the second and the third.
            blocks += [f"conv{stage}_block{block}_{index}" for index in ("1203" if block == 1 else "123")]
    for kind, short in _KINDS.items():
        for index, block in enumerate(blocks):
            yield f"{kind}_{index}" if index else kind, f"{block}_{short}"
    yield "dense", "predictions"


def _layer_name(name: str, layers: Mapping[str, str]) -> str:
    """Of "conv2d_3/0" the name "conv2_block1_0_conv/kernel"; any other name as it is."""
    layer, _, leaf = name.rpartition("/")
    layer = layers.get(layer, layer)
    leaves = _LEAVES.get(layer.rpartition("_")[2], ("kernel", "bias"))
    return f"{layer}/{leaves[int(leaf)]}" if layer and re.fullmatch("[0-3]", leaf) and int(leaf) < len(leaves) else name


def _torch_name(name: str) -> str:
    layer, _, leaf = name.rpartition("/")
    leaf = _TORCH_LEAVES.get(leaf, leaf)
    if layer == "predictions":
        return f"fc.{leaf}"
    if layer in ("conv1_conv", "conv1_bn"):
        return f"{layer.removeprefix('conv1_')}1.{leaf}"
    match = re.fullmatch(r"conv([2-5])_block(\d+)_([0-3])_(conv|bn)", layer)
    if not match:
        return name
    stage, block, index, kind = match.groups()
    module = f"{kind}{index}" if index != "0" else f"downsample.{0 if kind == 'conv' else 1}"
    return f"layer{int(stage) - 1}.{int(block) - 1}.{module}.{leaf}"


def _torch_axes(array: np.ndarray) -> np.ndarray:
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _listed(groups: Mapping[str, Any], datasets: Mapping[str, Any], root: str, present: int) -> list[tuple[str, Any]]:
    pairs = []
    for layer in read_names(groups[root], "layer_names", present):
        place = f"{root}/{layer}".strip("/")
        if place not in groups:
            raise ValueError(f"layer {shown(layer)}: expected a group, got none")
        weights = read_names(groups[place], "weight_names", present)
        # A weight's name repeats its scopes, and ends in ":0" where TensorFlow wrote it.
        leaves = [weight.split("/")[-1].removesuffix(":0") for weight in weights]
        for weight, leaf in zip(weights, leaves, strict=True):
            if f"{place}/{weight}" not in datasets:
                raise ValueError(f"layer {shown(layer)}: expected an array {shown(weight)}, got none")
            pairs.append((f"{layer}/{leaf}", datasets[f"{place}/{weight}"]))
    return pairs


def _numbered(datasets: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        (name.removeprefix("layers/").replace("/vars/", "/"), dataset)
        for name, dataset in datasets.items()
        if name.split("/")[-2:-1] == ["vars"] and not name.startswith("optimizer/")
    ]
