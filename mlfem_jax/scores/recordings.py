"""What is different where recordings are scored, not photographs: what fits, what is refused, what the report shows."""

import dataclasses
import io
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Num

from mlfem_jax import data
from mlfem_jax.backbones import Backbone, samples_per_s_of
from mlfem_jax.data import Index, RecordingFormat
from mlfem_jax.parallel import is_first
from mlfem_jax.photos import resize_photo
from mlfem_jax.scores.columns import METRICS, metric_names
from mlfem_jax.scores.config import Config
from mlfem_jax.scores.plan import Plan
from mlfem_jax.scores.small import shown_frames, small_shape
from mlfem_jax.scores.stored import StoredMaps


def recording_format(dataset: Mapping[str, Any], index: Index, backbone: Backbone) -> RecordingFormat:
    """What the recordings of a data set look like to the network.

    Args:
        dataset: its metadata.
        index: of its records.
        backbone: the network.

    Raises:
        ValueError: the network takes others.
    """
    if backbone.photos:
        shape = tuple(dataset["recording"]["shape"])
        raise ValueError(
            f"{dataset['name']}: expected photographs, as {backbone.name} takes, got recordings of shape {shape}"
        )
    named = {"source": dataset["name"], "network": backbone.name, "samples_per_s": samples_per_s_of(backbone.name)}
    return data.recording_format(dataset, index, shape=backbone.input_shape, **named)


def without_flat_metrics(config: Config) -> Config:
    """The config with its metrics by name; of a kind, such as "gaze", without those for photographs alone, aloud."""
    kept = metric_names(config.metrics, photos=False)
    left_out = [name for name in metric_names(config.metrics) if name not in kept]
    if left_out and is_first():
        print(f"metrics: {', '.join(left_out)} left out, for photographs alone", file=sys.stderr)
    return dataclasses.replace(config, metrics=kept)


def check_asked(config: Config, plan: Plan) -> None:
    """Refuses what makes sense for photographs alone.

    Raises:
        ValueError: names the option.
    """
    flat = [name for name in metric_names(config.metrics) if METRICS[name].photos]
    for name, given in (
        ("metrics", ", ".join(flat)),
        ("frame", config.frame),
        ("compare_in", config.compare_in if config.compare_in == "photo" else None),
        ("rule", config.rule if config.rule != "stretch" else None),
        ("bars", config.bars),
        ("smooth", "fit" if "fit" in plan.smooth else None),
        ("methods", next((name for name, method in plan.methods if isinstance(method, StoredMaps)), None)),
    ):
        if given:
            raise ValueError(f"{name}: expected what recordings lend themselves to, got {given}, for photographs alone")


def map_shape(backbone: Backbone, size: int) -> tuple[int, int]:
    """(height, width) in pixels of the small maps that a table keeps."""
    return small_shape(backbone.input_size, size)


def picture_of(recording: Num[np.ndarray, "*S C"], event: float, size: int) -> bytes:
    """What the report draws under the small maps: a NumPy file of a signal's numbers, a plane, or a strip of frames.

    Args:
        recording: an example.
        event: see `shown_frames`.
        size: longer side in pixels of each frame.

    Returns:
        The bytes; (L, C) float32 of a signal; (h, w, 3) uint8 of anything else.
    """
    axes = recording.ndim - 1
    if axes == 1:
        shown = recording.astype(np.float32)
    elif axes == 2:
        shown = _picture(recording, size)
    else:
        frames = recording[shown_frames(len(recording), np.float32(event))]
        shown = np.concatenate(list(_pictures(frames, size)), axis=1)
    file = io.BytesIO()
    np.save(file, shown)
    return file.getvalue()


def _pictures(frames: Num[np.ndarray, "n H W C"], size: int) -> list[np.ndarray]:
    """Frames as RGB, those of numbers in gray from the least to the largest of all of them."""
    if frames.dtype != np.uint8 or frames.shape[-1] != 3:
        low, high = float(frames.min()), float(frames.max())
        gray = (frames.mean(axis=-1) - low) / ((high - low) or 1.0)
        frames = np.repeat(np.rint(gray.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, axis=-1)
    height, width = frames.shape[1:3]
    scale = size / max(height, width)
    return [resize_photo(frame, (max(1, round(height * scale)), max(1, round(width * scale)))) for frame in frames]


def _picture(plane: Num[np.ndarray, "H W C"], size: int) -> np.ndarray:
    return _pictures(plane[None], size)[0]
