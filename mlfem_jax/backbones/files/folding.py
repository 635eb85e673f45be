"""From a state dict in PyTorch's layout to the parameters of our networks and back.

For explanation, batch norm is folded into the convolutions; for training, it stays what it is.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

Arrays = Mapping[str, np.ndarray]
Names = Callable[[str], tuple[str, str | None]]

_NORM = ("weight", "bias", "running_mean", "running_var")


def expected_shapes(shapes: Any, arrays: Arrays, names: Names) -> dict[str, tuple[int, ...]]:
    """What a state dict must hold for a network: entry name to shape, in PyTorch's layout.

    Args:
        shapes: nested dict of the network's parameters or their shapes; a layer is a dict with "kernel" and "bias".
        arrays: the state dict: a convolution before a batch norm may have a bias in it or not.
        names: layer path to the state-dict names of the convolution and of its batch norm (None: a bias instead).
    """
    expected = {}
    for path, layer in _layers(shapes):
        conv, norm = names(path)
        expected[f"{conv}.weight"] = _torch_shape(layer["kernel"].shape)
        channels = layer["bias"].shape
        if norm is not None:
            expected.update({f"{norm}.{entry}": channels for entry in _NORM})
        if norm is None or f"{conv}.bias" in arrays:
            expected[f"{conv}.bias"] = channels
    return expected


def fold(shapes: Any, arrays: Arrays, names: Names, *, epsilon: float) -> Any:
    """The network's parameters from a state dict.

    A convolution w x + b followed by batch norm gamma (w x + b - mean) / sqrt(var + epsilon) + beta is the convolution
    with kernel w s and bias beta + (b - mean) s, where s is gamma / sqrt(var + epsilon). Computed in float64.

    Args:
        shapes: as for `expected_shapes`.
        arrays: the state dict; `expected_shapes` has been checked.
        names: as for `expected_shapes`.
        epsilon: the batch norm's.

    Returns:
        Nested dict of float32 arrays in the structure of `shapes`.

    Raises:
        ValueError: a layer that float32 cannot hold; does not name the file.
    """
    folded = {path: _fold_layer(arrays, *names(path), epsilon=epsilon) for path, _ in _layers(shapes)}
    return jax.tree_util.tree_map_with_path(lambda path, _: folded[_join(path[:-1])][path[-1].key], shapes)


def unfold(
    params: Any, statistics: Any, arrays: Arrays, names: Names, *, keep: Collection[str] = ()
) -> tuple[Any, Any]:
    """The training form's parameters and running statistics from a state dict.

    A convolution's own bias before a batch norm does nothing but move the running mean, and is taken off it.

    Args:
        params: nested dict of arrays; a layer is a dict with "kernel" and "bias", and "scale" where it has batch norm.
        statistics: nested dict of arrays, "mean" and "variance" of the layers that have batch norm.
        arrays: the state dict; `expected_shapes` has been checked.
        names: as for `expected_shapes`.
        keep: paths of layers that stay as they are in `params`.

    Returns:
        (params, statistics), float32, in the structure of those given.
    """
    layers = {path: _unfold_layer(arrays, *names(path)) for path, _ in _layers(params) if path not in keep}

    def filled(tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: layers.get(_join(path[:-1]), {}).get(path[-1].key, leaf), tree
        )

    return filled(params), filled(statistics)


def state_dict(params: Any, statistics: Any, names: Names) -> dict[str, np.ndarray]:
    """The state dict, in PyTorch's layout, of a network in its training form: the inverse of `unfold`."""
    running, arrays = dict(_layers(statistics)), {}
    for path, layer in _layers(params):
        conv, norm = names(path)
        kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
        arrays[f"{conv}.weight"] = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        if norm is None:
            arrays[f"{conv}.bias"] = bias
            continue
        own = (layer["scale"], bias, running[path]["mean"], running[path]["variance"])
        arrays.update({f"{norm}.{entry}": np.asarray(leaf) for entry, leaf in zip(_NORM, own, strict=True)})
    return arrays


def _unfold_layer(arrays: Arrays, conv: str, norm: str | None) -> dict[str, np.ndarray]:
    kernel = np.asarray(arrays[f"{conv}.weight"], np.float32)
    kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
    bias = np.asarray(arrays.get(f"{conv}.bias", 0), np.float32)
    if norm is None:
        return {"kernel": kernel, "bias": bias}
    scale, beta, mean, variance = (np.asarray(arrays[f"{norm}.{entry}"], np.float32) for entry in _NORM)
    return {"kernel": kernel, "scale": scale, "bias": beta, "mean": mean - bias, "variance": variance}


def _fold_layer(arrays: Arrays, conv: str, norm: str | None, *, epsilon: float) -> dict[str, np.ndarray]:
    kernel = np.asarray(arrays[f"{conv}.weight"], np.float64)
    kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
    bias = np.asarray(arrays.get(f"{conv}.bias", 0), np.float64)
    if norm is not None:
        gamma, beta, mean, variance = (np.asarray(arrays[f"{norm}.{entry}"], np.float64) for entry in _NORM)
        scale = gamma / np.sqrt(variance + epsilon)
        kernel, bias = kernel * scale, beta + (bias - mean) * scale
    with np.errstate(over="ignore"):
        folded = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
    if not all(np.isfinite(array).all() for array in folded.values()):
        raise ValueError(f"{conv}.weight: expected float32, got numbers beyond it once {norm} is folded into it")
    return folded


def _layers(shapes: Any) -> list[tuple[str, dict[str, Any]]]:
    """(path, layer) of every dict that holds arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    layers: dict[str, dict[str, Any]] = {}
    for path, leaf in leaves:
        layers.setdefault(_join(path[:-1]), {})[path[-1].key] = leaf
    return list(layers.items())


def _join(path: tuple[Any, ...]) -> str:
    return ".".join(str(entry.key) for entry in path)


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]
