"""Pictures of maps of other data than photographs: a curve, a spectrogram, a film, a volume."""

import os
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Num, Real, UInt8
from PIL import Image, ImageDraw

from mlfem_jax.files import replacing
from mlfem_jax.plot import FAINT, GAP, INK, PAPER, overlay

_HEAT = 0.55
"""Opacity of the heat behind a curve."""


def draw_signal(
    signal: Real[np.ndarray, " L *C"],
    importance: Float[np.ndarray, " L"],
    *,
    size: tuple[int, int] = (160, 900),
    colormap: str = "inferno",
) -> UInt8[np.ndarray, "H W 3"]:
    """The curve of a signal, the heat of its map behind it; one curve below the other for several channels.

    Args:
        signal: (L,) or (L, C).
        importance: (L,), clipped to [0, 1].
        size: (height, width) in pixels of each channel's curve.
        colormap: see `mlfem_jax.overlay`.

    Returns:
        (H, W, 3).

    Example:
        >>> draw_signal(np.sin(np.arange(100) / 5), np.linspace(0, 1, 100), size=(40, 200)).shape
        (40, 200, 3)
    """
    channels = np.asarray(signal, np.float64).reshape(len(signal), -1).T
    bands = [_curve(channel, importance, size, colormap) for channel in channels]
    gap = np.full((GAP, size[1], 3), PAPER, np.uint8)
    return np.concatenate([part for band in bands for part in (gap, band)][1:])


def draw_plane(
    plane: Real[np.ndarray, "H W"],
    importance: Float[np.ndarray, "H W"],
    *,
    limits: tuple[float, float] | None = None,
    scale: int = 4,
    colormap: str = "inferno",
) -> UInt8[np.ndarray, "h w 3"]:
    """A plane of numbers in gray, the map laid over it: a spectrogram, a slice.

    Args:
        plane: (H, W); of a spectrogram, frequency downward.
        importance: (H, W), clipped to [0, 1].
        limits: the numbers that are black and white; None is the least and the largest.
        scale: pixels a side of each number.
        colormap: see `mlfem_jax.overlay`.

    Returns:
        (h, w, 3).

    Example:
        >>> draw_plane(np.eye(3), np.zeros((3, 3)), scale=1)[0, :, 0].tolist()
        [255, 0, 0]
    """
    low, high = (float(plane.min()), float(plane.max())) if limits is None else limits
    gray = np.rint(np.clip((plane - low) / (high - low or 1.0), 0, 1) * 255).astype(np.uint8)
    picture = overlay(np.repeat(gray[..., None], 3, axis=-1), importance, colormap=colormap)
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def draw_slices(
    volume: Real[np.ndarray, "D H W"],
    importance: Float[np.ndarray, "D H W"],
    *,
    at: tuple[int, int, int] | None = None,
    scale: int = 4,
    colormap: str = "inferno",
) -> UInt8[np.ndarray, "h w 3"]:
    """Three slices of a volume, one across each axis, the map laid over them.

    Args:
        volume: (D, H, W).
        importance: (D, H, W), clipped to [0, 1].
        at: where they meet; None is where the map is highest.
        scale: pixels a side of each voxel.
        colormap: see `mlfem_jax.overlay`.

    Returns:
        (h, w, 3), the slices side by side, first axis first.

    Example:
        >>> draw_slices(np.zeros((4, 5, 6)), np.zeros((4, 5, 6)), scale=1).shape
        (5, 41, 3)
    """
    peak = np.unravel_index(importance.argmax(), importance.shape) if at is None else at
    pairs = [(volume.take(place, axis), importance.take(place, axis)) for axis, place in enumerate(peak)]
    limits = float(volume.min()), float(volume.max())
    parts = [draw_plane(plane, heat, limits=limits, scale=scale, colormap=colormap) for plane, heat in pairs]
    return _beside(parts)


def draw_film(
    clip: UInt8[np.ndarray, "T H W 3"],
    importance: Float[np.ndarray, "T H W"],
    *,
    frames: int = 8,
    scale: int = 2,
    colormap: str = "inferno",
) -> UInt8[np.ndarray, "h w 3"]:
    """A strip of frames with the map over them; below it the map's course over time, the frames shown marked.

    Args:
        clip: (T, H, W, 3).
        importance: (T, H, W), clipped to [0, 1].
        frames: how many are shown, evenly over the clip.
        scale: pixels a side of each pixel.
        colormap: see `mlfem_jax.overlay`.

    Returns:
        (h, w, 3).

    Example:
        >>> draw_film(np.zeros((9, 4, 6, 3), np.uint8), np.zeros((9, 4, 6)), frames=3, scale=1).shape
        (96, 42, 3)
    """
    shown = np.unique(np.linspace(0, len(clip) - 1, min(frames, len(clip))).round().astype(int))
    strip = _beside(list(_frames(clip[shown], importance[shown], scale, colormap)))
    course = importance.mean(axis=(1, 2))
    below = _curve(course, np.zeros_like(course), (80, strip.shape[1]), colormap, marks=shown)
    return np.concatenate([strip, np.full((GAP, strip.shape[1], 3), PAPER, np.uint8), below])


def write_film(
    path: str | os.PathLike,
    clip: UInt8[np.ndarray, "T H W 3"],
    importance: Float[np.ndarray, "T H W"],
    *,
    frames_per_s: int | float = 12,
    scale: int = 4,
    colormap: str = "inferno",
) -> None:
    """Writes an animated WebP of the clip with its map over it, whole or not at all.

    Args:
        path: the file to write or replace.
        clip: (T, H, W, 3).
        importance: (T, H, W), clipped to [0, 1].
        frames_per_s: how fast it runs.
        scale: pixels a side of each pixel.
        colormap: see `mlfem_jax.overlay`.
    """
    first, *others = (Image.fromarray(frame) for frame in _frames(clip, importance, scale, colormap))
    with replacing(path) as file:
        first.save(file, "WEBP", save_all=True, append_images=others, duration=round(1000 / frames_per_s), loop=0)


def _frames(clip: np.ndarray, importance: np.ndarray, scale: int, colormap: str) -> Iterator[np.ndarray]:
    for frame, heat in zip(clip, importance, strict=True):
        yield overlay(frame, heat, colormap=colormap).repeat(scale, axis=0).repeat(scale, axis=1)


def _beside(parts: list[np.ndarray]) -> np.ndarray:
    """Pictures in a row, with gaps; the shorter ones end in paper."""
    tallest = max(len(part) for part in parts)
    row = []
    for part in parts:
        below = np.full((tallest - len(part), part.shape[1], 3), PAPER, np.uint8)
        row += [np.full((tallest, GAP, 3), PAPER, np.uint8), np.concatenate([part, below])]
    return np.concatenate(row[1:], axis=1)


def _curve(
    values: Num[np.ndarray, " L"],
    importance: Num[np.ndarray, " L"],
    size: tuple[int, int],
    colormap: str,
    marks: np.ndarray | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """One curve from its least to its largest value over the heat, which is as dark as the map is high."""
    height, width = size
    places = np.arange(width) * len(values) // width
    heat = np.broadcast_to(importance[places][None], (height, width))
    paper = np.full((height, width, 3), PAPER, np.uint8)
    picture = Image.fromarray(overlay(paper, heat, opacity=_HEAT, colormap=f"{colormap}_r"))
    low, high = float(values.min()), float(values.max())
    down = (height - 9) * (1 - (values - low) / (high - low or 1.0)) + 4
    along = (np.arange(len(values)) + 0.5) * width / len(values)
    draw = ImageDraw.Draw(picture)
    for mark in marks if marks is not None else ():
        draw.line((along[mark], 0, along[mark], height), fill=FAINT)
    draw.line(list(zip(along.tolist(), down.tolist(), strict=True)), fill=INK, width=2)
    return np.asarray(picture)
