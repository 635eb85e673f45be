"""Weights, inputs and fingerprints that two implementations of one network can make alike. NumPy only.

PCG64's raw stream is guaranteed by NumPy not to change (NEP 19), and everything here is made of it.
"""

import zlib
from collections.abc import Mapping

import numpy as np

_SAMPLES = 64
_PERIOD = 1_000_003  # a prime: the long arrays of a classifier repeat without their rows lining up


def uniform(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """float32 in [0, 1), the same for the same name and seed on every machine."""
    size = int(np.prod(shape))
    raw = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw(min(size, _PERIOD))
    return np.resize((raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-24), shape)


def centered(name: str, shape: tuple[int, ...], std: float, seed: int = 0) -> np.ndarray:
    """float32 around 0, uniform with the standard deviation `std`."""
    return (uniform(name, shape, seed) - np.float32(0.5)) * np.float32(np.sqrt(12) * std)


def synthetic_state_dict(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """A torch state dict of a ResNet or VGG, which keeps its activations near 1 through any number of layers.

    Convolutions have He's scale; the last batch norm of a residual block is small, so that sums do not grow.
    """
    return {name: _entry(name, tuple(shape), shapes, seed) for name, shape in shapes.items()}


def _entry(name: str, shape: tuple[int, ...], names: Mapping[str, object], seed: int) -> np.ndarray:
    kind = name.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "running_var":
        return uniform(name, shape, seed) + np.float32(0.5)
    if kind in ("bias", "running_mean"):
        return centered(name, shape, 0.1, seed)
    if len(shape) > 1:
        return centered(name, shape, (2 / np.prod(shape[1:])) ** 0.5, seed)
    last = name.endswith("bn3.weight") or (name.endswith("bn2.weight") and name.replace("bn2", "bn3") not in names)
    return (uniform(name, shape, seed) + np.float32(0.5)) * np.float32(0.2 if last else 1.0)


def synthetic_keras_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """The same for a Keras ResNet: names are "layer/weight", kernels are (height, width, in, out)."""
    return {name: _keras_entry(name, tuple(shape), seed) for name, shape in shapes.items()}


def _keras_entry(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    layer, kind = name.split("/")
    if kind == "kernel":
        return centered(name, shape, (2 / np.prod(shape[:-1])) ** 0.5, seed)
    if kind == "gamma":
        return (uniform(name, shape, seed) + np.float32(0.5)) * np.float32(0.2 if layer.endswith("_3_bn") else 1.0)
    if kind == "moving_variance":
        return uniform(name, shape, seed) + np.float32(0.5)
    return centered(name, shape, 0.1, seed)  # bias, beta, moving_mean


def synthetic_inputs(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Preprocessed images (N, H, W, 3): float32 patches and noise of mean 0, standard deviation 1."""
    n, height, width, channels = shape
    coarse = centered("coarse", (n, -(-height // 8), -(-width // 8), channels), 0.8, seed)
    patches = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    return patches + centered("noise", shape, 0.6, seed)


def fingerprint(activation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is kept of a batch of activations (N, h, w, C): 64 samples of each, and its mean, std and peak.

    Returns:
        (N, 64) float32 values at fixed places, and (N, 3) float64 mean, population std, largest magnitude.
    """
    flat = np.asarray(activation, np.float64).reshape(len(activation), -1)
    places = np.random.PCG64(flat.shape[1]).random_raw(_SAMPLES) % np.uint64(flat.shape[1])
    summary = np.stack([flat.mean(axis=1), flat.std(axis=1), np.abs(flat).max(axis=1)], axis=1)
    return flat[:, places.astype(np.int64)].astype(np.float32), summary


def network_weight(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """One entry of the state dict of any of today's networks, such that activations stay near 1.

    Norms have weights below 1, so that what residual blocks add up does not grow beyond float32's digits.
    """
    outer, _, kind = name.rpartition(".")
    if kind == "running_var":
        return uniform(name, shape, seed) + np.float32(0.5)
    if "layer_scale" in kind or kind == "gamma":
        return uniform(name, shape, seed) * np.float32(0.5)
    if kind == "logit_scale":
        return centered(name, shape, 0.2, seed) + np.float32(1.0)
    if kind == "weight" and len(shape) == 1 and "grn" not in outer:
        return uniform(name, shape, seed) * np.float32(0.5) + np.float32(0.4)
    if len(shape) < 2 or kind.endswith("_bias"):
        return centered(name, shape, 0.1, seed)
    if kind.endswith("_table"):
        return centered(name, shape, 0.5, seed)
    return centered(name, shape, (2 / np.prod(shape[1:])) ** 0.5, seed)
