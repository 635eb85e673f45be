"""From a state dict in PyTorch's layout to the parameters of our networks and back.

For explanation, batch norm is folded into the convolutions; for training, it stays what it is.

A layer is a dict of parameters with a "kernel", or with the "scale" of a batch norm that stands alone. Other parameters
(a layer norm's, a table of positions) are entries of the state dict as they are.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

Arrays = Mapping[str, np.ndarray]
Names = Callable[[str], tuple[str | None, str | None]]
"""Path of a layer to the state-dict names of its convolution or dense layer and of the batch norm behind it, None where
it has none; path of another parameter to the name of its entry."""

_NORM = ("weight", "bias", "running_mean", "running_var")


def expected_shapes(shapes: Any, arrays: Arrays, names: Names) -> dict[str, tuple[int, ...]]:
    """What a state dict must hold for a network: entry name to shape, in PyTorch's layout.

    Args:
        shapes: nested dict of the network's parameters or their shapes; a layer is a dict with "kernel" and "bias".
        arrays: the state dict: a convolution before a batch norm may have a bias in it or not.
        names: layer path to the state-dict names of the convolution and of its batch norm (None: a bias instead).
    """
    expected = {str(names(path)[0]): leaf.shape for path, leaf in _others(shapes)}
    for path, layer in _layers(shapes):
        conv, norm = names(path)
        if conv is not None:
            expected[f"{conv}.weight"] = _torch_shape(layer["kernel"].shape)
        if norm is not None:
            expected.update({f"{norm}.{entry}": layer["bias"].shape for entry in _NORM})
        if "bias" in layer and conv is not None and (norm is None or f"{conv}.bias" in arrays):
            expected[f"{conv}.bias"] = layer["bias"].shape
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
    others = _other_arrays(shapes, arrays, names)

    def taken(path: tuple[Any, ...], _: Any) -> np.ndarray:
        layer = folded.get(_join(path[:-1]))
        return others[_join(path)] if layer is None else layer[path[-1].key]

    return jax.tree_util.tree_map_with_path(taken, shapes)


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
    others = _other_arrays(params, arrays, names)

    def filled(tree: Any) -> Any:
        def taken(path: tuple[Any, ...], leaf: Any) -> Any:
            layer = layers.get(_join(path[:-1]))
            return others.get(_join(path), leaf) if layer is None else layer.get(path[-1].key, leaf)

        return jax.tree_util.tree_map_with_path(taken, tree)

    return filled(params), filled(statistics)


def state_dict(params: Any, statistics: Any, names: Names) -> dict[str, np.ndarray]:
    """The state dict, in PyTorch's layout, of a network in its training form: the inverse of `unfold`."""
    running = {path: leaf for path, leaf in _leaves(statistics)}
    arrays = {str(names(path)[0]): np.asarray(leaf) for path, leaf in _others(params)}
    for path, layer in _layers(params):
        conv, norm = names(path)
        if conv is not None:
            kernel = np.asarray(layer["kernel"])
            arrays[f"{conv}.weight"] = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        if norm is None:
            arrays |= {f"{conv}.bias": np.asarray(layer["bias"])} if "bias" in layer else {}
            continue
        own = (layer["scale"], layer["bias"], running[f"{path}.mean"], running[f"{path}.variance"])
        arrays.update({f"{norm}.{entry}": np.asarray(leaf) for entry, leaf in zip(_NORM, own, strict=True)})
    return arrays


def _unfold_layer(arrays: Arrays, conv: str | None, norm: str | None) -> dict[str, np.ndarray]:
    kernel = _kernel(arrays, conv, np.float32)
    bias = np.asarray(arrays.get(f"{conv}.bias", 0), np.float32)
    if norm is None:
        return {"kernel": kernel, "bias": bias}
    scale, beta, mean, variance = (np.asarray(arrays[f"{norm}.{entry}"], np.float32) for entry in _NORM)
    return {"kernel": kernel, "scale": scale, "bias": beta, "mean": mean - bias, "variance": variance}


def _kernel(arrays: Arrays, conv: str | None, dtype: Any) -> np.ndarray:
    """In our layout; 1 for a batch norm that stands alone."""
    if conv is None:
        return np.ones((), dtype)
    kernel = np.asarray(arrays[f"{conv}.weight"], dtype)
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T


def _fold_layer(arrays: Arrays, conv: str | None, norm: str | None, *, epsilon: float) -> dict[str, np.ndarray]:
    kernel = _kernel(arrays, conv, np.float64)
    bias = np.asarray(arrays.get(f"{conv}.bias", 0), np.float64)
    if norm is not None:
        gamma, beta, mean, variance = (np.asarray(arrays[f"{norm}.{entry}"], np.float64) for entry in _NORM)
        scale = gamma / np.sqrt(variance + epsilon)
        kernel, bias = kernel * scale, beta + (bias - mean) * scale
    with np.errstate(over="ignore"):
        folded = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
    if not all(np.isfinite(array).all() for array in folded.values()):
        place = f"{norm}.weight" if conv is None else f"{conv}.weight"
        raise ValueError(f"{place}: expected float32, got numbers beyond it once {norm} is folded into it")
    return folded


def _layers(shapes: Any) -> list[tuple[str, dict[str, Any]]]:
    """(path, layer) of every dict that is a layer."""
    layers: dict[str, dict[str, Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        layers.setdefault(_join(path[:-1]), {})[path[-1].key] = leaf
    return [(path, layer) for path, layer in layers.items() if layer.keys() & {"kernel", "scale"}]


def _others(shapes: Any) -> list[tuple[str, Any]]:
    """(path, leaf) of every parameter that is in no layer."""
    inside = {f"{path}.{leaf}" for path, layer in _layers(shapes) for leaf in layer}
    return [(path, leaf) for path, leaf in _leaves(shapes) if path not in inside]


def _other_arrays(shapes: Any, arrays: Arrays, names: Names) -> dict[str, np.ndarray]:
    return {path: np.asarray(arrays[str(names(path)[0])], np.float32) for path, _ in _others(shapes)}


def _leaves(shapes: Any) -> list[tuple[str, Any]]:
    return [(_join(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)]


def _join(path: tuple[Any, ...]) -> str:
    return ".".join(str(entry.key) for entry in path)


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]
