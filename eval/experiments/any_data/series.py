"""Time series: the gestures and motions that aeon packages, with a burst put in at a known place."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float

from eval.experiments.any_data.kinds import Kind, agreement, all_methods, event_maps, package_folder
from eval.experiments.any_data.small_net import small_backbone, trained

LENGTH = 20
_PERIODS = (4, 9)
OPTIONS = {
    "occlusion": {"window_px": 10, "stride_px": 5},
    "rise": {"samples": 300, "cells": 12},
    "lime": {"samples": 300, "segments": 15},
    "smooth_grad": {"samples": 20},
    "var_grad": {"samples": 20},
    "integrated_gradients": {"steps": 20, "baseline": "zero"},
}


def series_kind(name: str, *, examples: int, steps: int, seed: int = 0) -> Kind:
    """A network that tells a series without a burst from one with a fast or a slow one, and held-out series.

    Args:
        name: of the data set: GunPoint, ArrowHead, BasicMotions.
        examples: how many are explained, all with a burst.
        steps: of training.
        seed: of everything that is drawn.
    """
    folder = package_folder("aeon", "aeon") / "datasets" / "data" / name
    known, held_out = (read_series(folder / f"{name}_{part}.ts") for part in ("TRAIN", "TEST"))
    backbone = small_backbone(
        known.shape[1:], kernel=7, widths=(16, 32, 32), strides=(1, 2, 2), classes=3, seed=seed
    )  # fmt: skip
    params = trained(
        backbone, lambda draw, count: with_bursts(draw, known, count)[:2], steps=steps, batch_size=64, seed=seed
    )
    network = dataclasses.replace(backbone, params=params)
    shown, classes, starts = with_bursts(np.random.default_rng(seed + 1), held_out, examples, least=1)
    masks, events = event_maps(starts[:, None], (LENGTH,), known.shape[1:2])
    return Kind(
        name=f"series: {name}",
        trained=network,
        untrained=backbone,
        examples=shown,
        targets=classes,
        masks=masks,
        events=events,
        methods=all_methods(network, OPTIONS),
        accuracy=agreement(network, shown, classes),
    )


def with_bursts(
    draw: np.random.Generator, series: Float[np.ndarray, "M L C"], count: int, *, least: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Series with a burst of the class's period in one channel, none in class 0; their classes, and where it begins."""
    chosen = series[draw.integers(len(series), size=count)].copy()
    classes = draw.integers(least, len(_PERIODS) + 1, size=count)
    starts = draw.integers(0, series.shape[1] - LENGTH, size=count)
    channels = draw.integers(series.shape[2], size=count)
    times = np.arange(LENGTH)
    for example, kind, start, channel in zip(chosen, classes, starts, channels, strict=True):
        if kind:
            wave = np.sin(2 * np.pi * times / _PERIODS[kind - 1] + draw.uniform(0, 2 * np.pi))
            example[start : start + LENGTH, channel] += wave * np.hanning(LENGTH + 2)[1:-1]
    return chosen, classes, starts


def read_series(file: Path) -> Float[np.ndarray, "M L C"]:
    """The series of a .ts file, of one length, each channel of mean 0 and deviation 1 over the file.

    Raises:
        ValueError: a line that is no series, by number.
    """
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if line and not line.startswith(("#", "@")):
            *channels, _ = line.split(":")
            try:
                rows.append([[float(value) for value in channel.split(",")] for channel in channels])
            except ValueError as error:
                raise ValueError(f"{file}: expected numbers in line {number}, got {line!r:.60}") from error
    series = np.array(rows, np.float32).transpose(0, 2, 1)
    return (series - series.mean(axis=(0, 1))) / series.std(axis=(0, 1))
