"""Slow NumPy loops written from the paper's formulas; they never import the library."""

import itertools
import math

import numpy as np


def fem(activation, k, sign="as_is"):
    """Section 2.1: one channel, one position at a time, in float64; and what it becomes for signed features."""
    *space, channels = activation.shape
    out = np.zeros(space)
    for channel in range(channels):
        values = [float(activation[(*position, channel)]) for position in np.ndindex(*space)]
        if sign == "relu":
            values = [max(value, 0.0) for value in values]
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        for position, value in zip(np.ndindex(*space), values, strict=True):
            if sign == "two_sided" and abs(value - mean) >= k * deviation:
                out[position] += abs(mean)
            elif sign != "two_sided" and value >= mean + k * deviation:
                out[position] += mean
    return out


def upsample(image, shape):
    """Linear between half-pixel centers, edges repeated, any number of axes."""
    out = np.zeros(shape)
    for target in np.ndindex(*shape):
        corners = []
        for index, size, length in zip(target, shape, image.shape, strict=True):
            place = min(max((index + 0.5) * length / size - 0.5, 0.0), length - 1.0)
            low = min(int(place), max(length - 2, 0))
            high = min(low + 1, length - 1)
            corners.append([(low, 1 - (place - low)), (high, place - low)])
        out[target] = sum(
            math.prod(weight for _, weight in corner) * image[tuple(index for index, _ in corner)]
            for corner in itertools.product(*corners)
        )
    return out


def normalize(image):
    low, high = min(image.flat), max(image.flat)
    if not (math.isfinite(low) and math.isfinite(high)) or high == low:
        return np.zeros(image.shape)
    return np.array([(value - low) / (high - low) for value in image.flat]).reshape(image.shape)


def fuse(maps, operator, alpha, normalization):
    """Section 2.3, pixel by pixel: fold the binary operator from the first map to the last."""
    fused = np.array(maps[0], np.float64)
    for depth, layer in enumerate(maps[1:], start=2):
        mean = sum(layer.flat) / layer.size
        step = np.zeros(fused.shape)
        for place in np.ndindex(*fused.shape):
            a, b = fused[place], float(layer[place])
            step[place] = {
                "max": max(a, b),
                "add": alpha * a + (1 - alpha) * b,
                "top": alpha * a + (1 - alpha) * (b if b > mean else 0.0),
                "fem": b,
                "mean": (a * (depth - 1) + b) / depth,
                "product": a * b,
            }[operator]
        fused = normalize(step) if normalization == "each" else step
    return normalize(fused) if normalization == "end" else fused
