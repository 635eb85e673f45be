"""Frames: where a photograph lands when it is resized, and where its fixations, sigma and content box go.

Pixels are points at the center of unit squares, as in `mlfem.upsample` and Pillow: a coordinate y of a
photograph of height H lands on (y + 1/2) h / H - 1/2 when it is resized to height h.
"""

from typing import Literal, TypeAlias

import jax
import numpy as np
from jaxtyping import Float

Arrays: TypeAlias = jax.Array | np.ndarray
Box: TypeAlias = tuple[int, int, int, int]
FitRule: TypeAlias = Literal["stretch", "letterbox"]
"""How a photograph gets to another frame: stretched, or whole with bars."""


def fit(shape: tuple[int, int], new_shape: tuple[int, int], *, rule: FitRule = "stretch") -> Box:
    """The box of the new frame that the whole resized photograph covers.

    Args:
        shape: (height, width) of the photograph, in pixels.
        new_shape: (height, width) of the new frame, in pixels.
        rule: "stretch" to all of the new frame; or "letterbox", the largest centered box of the photograph's
            proportions, rounded to whole pixels (when the margin is odd, the larger part is below or right).

    Returns:
        (y0, x0, y1, x1) in pixels of the new frame, half open.

    Raises:
        ValueError: if a side is not above 0, or `rule` is neither.

    Example:
        >>> fit((600, 800), (224, 224), rule="letterbox")
        (28, 0, 196, 224)
    """
    (height, width), (new_height, new_width) = shape, new_shape
    if min(height, width, new_height, new_width) < 1:
        raise ValueError(f"shape and new_shape: expected sides above 0, got {shape} and {new_shape}")
    if rule == "stretch":
        return 0, 0, new_height, new_width
    if rule != "letterbox":
        raise ValueError(f"rule: expected 'stretch' or 'letterbox', got {rule!r}")
    scale = min(new_height / height, new_width / width)
    box_height, box_width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (new_height - box_height) // 2, (new_width - box_width) // 2
    return top, left, top + box_height, left + box_width


def move_fixations(fixations: Float[Arrays, "*n 2"], shape: tuple[int, int], box: Box) -> Float[Arrays, "*n 2"]:
    """Fixations on a photograph, in the frame that the photograph was resized into.

    Args:
        fixations: (..., 2) as (y, x), in pixels of the photograph, NumPy or JAX.
        shape: (height, width) of the photograph, in pixels.
        box: where the photograph landed, from `fit`.

    Returns:
        (..., 2) in pixels of the new frame; NaN stays NaN.

    Example:
        >>> move_fixations(np.array([[0.0, 0.0], [9.0, 9.0]]), (10, 10), (0, 0, 5, 20)).tolist()
        [[-0.25, 0.5], [4.25, 18.5]]
    """
    scale, start = (
        np.broadcast_to(pair, fixations.shape).astype(fixations.dtype) for pair in _scale_and_start(shape, box)
    )
    return (fixations + 0.5) * scale + (start - 0.5)


def scale_sigma(sigma_px: float, shape: tuple[int, int], box: Box) -> Float[np.ndarray, "2"]:
    """The sigma of a photograph's GFDM in the frame that the photograph was resized into.

    Stretching makes the round Gaussian an ellipse: with these two, the GFDM of moved fixations is the resized
    GFDM of the photograph.

    Args:
        sigma_px: in pixels of the photograph.
        shape: (height, width) of the photograph, in pixels.
        box: where the photograph landed, from `fit`.

    Returns:
        (2,) sigma along (y, x), in pixels of the new frame, float32.

    Example:
        >>> scale_sigma(24.0, (600, 800), (0, 0, 300, 200)).tolist()
        [12.0, 6.0]
    """
    scale, _ = _scale_and_start(shape, box)
    return (sigma_px * scale).astype(np.float32)


def move_box(inner: Box, shape: tuple[int, int], box: Box) -> Box:
    """A box of the photograph (its content, without the bars that pad it) in the new frame.

    Args:
        inner: (y0, x0, y1, x1) in pixels of the photograph, half open.
        shape: (height, width) of the photograph, in pixels.
        box: where the photograph landed, from `fit`.

    Returns:
        (y0, x0, y1, x1) in pixels of the new frame, half open, rounded to the nearest edges of pixels, at
        least one pixel high and wide.

    Example:
        >>> move_box((10, 0, 90, 100), (100, 100), (5, 0, 15, 10))
        (6, 0, 14, 10)
    """
    scale, start = _scale_and_start(shape, box)
    end = np.array(box[2:])
    first = np.minimum(np.rint(np.array(inner[:2]) * scale + start).astype(int), end - 1)
    last = np.maximum(np.rint(np.array(inner[2:]) * scale + start).astype(int), first + 1)
    return int(first[0]), int(first[1]), int(last[0]), int(last[1])


def _scale_and_start(shape: tuple[int, int], box: Box) -> tuple[np.ndarray, np.ndarray]:
    start, end = np.array(box[:2], float), np.array(box[2:], float)
    return (end - start) / np.array(shape, float), start
