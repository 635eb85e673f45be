"""Reads the arrays of an HDF5 file that Keras wrote."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_TORCH_LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


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
        ModuleNotFoundError: h5py is not installed.
        ValueError: no Keras file, or a damaged one; names the file.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{path}: reading a Keras file needs h5py: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            root = file["model_weights"] if "model_weights" in file else file
            pairs = _named(root) if "layer_names" in root.attrs else _numbered(root)
            arrays = {name: _array(file, name, dataset) for name, dataset in pairs}
    except (OSError, KeyError, RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a readable Keras weight file ({error})") from error
    if len(arrays) != len(pairs) or not arrays:
        raise ValueError(f"{path}: {len(pairs)} arrays under {len(arrays)} names; expected one name for each")
    return arrays


def torch_resnet(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a Keras ResNet as a torchvision state dict, in which convolutions have a bias too.

    The networks still differ: Keras puts the stride of a bottleneck into its first 1x1 convolution (v1), its
    batch norms have epsilon 1.001e-5, and it was trained on BGR pixels in 0..255 less their means.

    Args:
        arrays: as `read_keras_file` returns them, "conv2_block1_0_conv/kernel" and so on.

    Returns:
        The arrays by torchvision's names, in torch's axis order; an array without a Keras name ("layer/weight") is
        one of a state dict already, and is kept as it is.
    """
    return {_torch_name(name): _torch_axes(array) if "/" in name else array for name, array in arrays.items()}


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


def _named(root: Any) -> list[tuple[str, Any]]:
    pairs = []
    for layer in map(_text, root.attrs["layer_names"]):
        for weight in map(_text, root[layer].attrs["weight_names"]):
            # A weight's name repeats its scopes, and ends in ":0" where TensorFlow wrote it.
            name = weight.split("/")[-1].removesuffix(":0")
            pairs.append((f"{layer}/{name}", root[layer][weight]))
    return pairs


def _numbered(root: Any) -> list[tuple[str, Any]]:
    names: list[str] = []
    root.visit(names.append)
    return [
        (name.removeprefix("layers/").replace("/vars/", "/"), root[name])
        for name in names
        if name.split("/")[-2:-1] == ["vars"]
    ]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _array(file: Any, name: str, dataset: Any) -> np.ndarray:
    # HDF5 can name other files, as links and as storage: a weight file must not read them.
    if dataset.file.filename != file.filename or dataset.external:
        raise ValueError(f"{name} lies in another file; refused")
    if dataset.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {dataset.dtype}, not numbers")
    return dataset[()]
