"""One record of a prepared data set of recordings to one example: what `example.py` does for photographs."""

import dataclasses
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32, Num, Shaped

MAGIC = b"\x93NUMPY"
"""How a stored recording starts: it is the bytes of a NumPy file."""


@dataclasses.dataclass(frozen=True)
class RecordingFormat:
    """What every example looks like; recordings are not resized.

    Attributes:
        shape: of an example, channels last.
        max_fixations: length to which the list of events, or fixations, is padded; `scan` finds what is needed.
        axes: of the events: the first of the spatial ones of an example.
        classes: number of classes of the multi-hot labels; 0 leaves labels out.
        dtype: of the examples: uint8 or float32.
    """

    shape: tuple[int, ...]
    max_fixations: int
    axes: int
    classes: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.shape) < 1 or min(self.max_fixations, self.classes) < 0 or not 0 < self.axes < len(self.shape):
            raise ValueError(f"shape, max_fixations, axes, classes: expected numbers that fit, got {self}")


def windows(recording: Shaped[np.ndarray, "T ..."], length: int) -> Iterator[Shaped[np.ndarray, "length ..."]]:
    """The recording cut into windows of one length, the last one filled up with its last sample.

    Example:
        >>> [window.tolist() for window in windows(np.arange(5), 3)]
        [[0, 1, 2], [3, 4, 4]]
    """
    for start in range(0, len(recording), length):
        yield recording[np.minimum(np.arange(start, start + length), len(recording) - 1)]


def checked_labels(labels: Any, name: str, classes: int) -> Int32[np.ndarray, " n"]:
    """The labels of a record.

    Raises:
        ValueError: naming the record, if they are of other classes.
    """
    labels = np.asarray(labels, np.int32)
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"record {name!r}: expected labels from 0 to {classes - 1}, got {labels.tolist()}")
    return labels


def blank_recording(form: RecordingFormat) -> dict[str, np.ndarray]:
    """The example that fills up the last batch: no id, mask False, zeros, nothing known.

    Args:
        form: shapes.

    Returns:
        The fields of `Batch` without the leading axis.

    Example:
        >>> blank_recording(RecordingFormat((100, 1), 3, axes=1))["fixations"].shape
        (3, 1)
    """
    count, axes = form.max_fixations, form.axes
    return {
        "images": np.zeros(form.shape, form.dtype),
        "mask": np.array(False),
        "ids": np.array(""),
        "fixations": np.zeros((count, axes), np.float32),
        "fixation_mask": np.zeros(count, bool),
        "observers": np.full(count, -1, np.int32),
        "durations": np.full(count, np.nan, np.float32),
        "labels": np.zeros(form.classes, bool),
        "clutter": np.array(-1, np.int32),
        "content_box": np.zeros(2 * axes, np.int32),
        "photo_box": np.zeros(2 * axes, np.int32),
        "size": np.zeros(axes, np.int32),
        "scale": np.ones(axes, np.float32),
    }


def recording_example(record: Mapping[str, Any], name: str, form: RecordingFormat) -> dict[str, np.ndarray]:
    """A record decoded and padded.

    Args:
        record: a record of a prepared data set.
        name: its id.
        form: shapes.

    Returns:
        The fields of `Batch` without the leading axis.

    Raises:
        ValueError: naming the record: if it holds a photograph, or has another shape, dtype, more events or another
            number of their coordinates than the format.
    """
    example, count = blank_recording(form), len(record["fixations"])
    if count > form.max_fixations or np.shape(record["fixations"])[1:] != (form.axes,):
        raise ValueError(
            f"record {name!r}: expected at most {form.max_fixations} events of {form.axes} coordinates, got shape "
            f"{np.shape(record['fixations'])}"
        )
    if form.classes:
        example["labels"][checked_labels(record["labels"], name, form.classes)] = True
    for field in ("fixations", "observers", "durations"):
        example[field][:count] = record[field]
    example["fixation_mask"][:count] = True
    box = np.asarray(record["content_box"], np.int32)
    return example | {
        "images": decode_recording(record, name, form),
        "mask": np.array(True),
        "ids": np.array(name),
        "clutter": np.asarray(record["clutter"], np.int32),
        "content_box": box,
        "photo_box": box,
        "size": np.asarray(record["size"], np.int32),
    }


def decode_recording(record: Mapping[str, Any], name: str, form: RecordingFormat) -> Num[np.ndarray, "*S C"]:
    """The numbers of a record, with their channel axis.

    Args:
        record: a record of a prepared data set.
        name: its id.
        form: shape and dtype.

    Raises:
        ValueError: naming the record: if it holds a photograph, is damaged, or has another shape or dtype.
    """
    if not record["image"].startswith(MAGIC):
        raise ValueError(f"record {name!r}: expected a recording, got a photograph")
    try:
        values = np.load(io.BytesIO(record["image"]), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"record {name!r}: expected a whole NumPy file, got a damaged one ({error})") from error
    bare = form.shape[:-1] if form.shape[-1] == 1 else None
    if values.shape not in (form.shape, bare) or values.dtype != form.dtype:
        raise ValueError(
            f"record {name!r}: expected {form.shape} of {form.dtype}, got {values.shape} of {values.dtype}"
        )
    return values.reshape(form.shape)
