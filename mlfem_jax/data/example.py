"""One record of a prepared data set to one example of static shapes, in the frame that a network reads."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, UInt8
from PIL import Image

from mlfem_jax.data.density import read_density
from mlfem_jax.data.recording import MAGIC, RecordingFormat, blank_recording, checked_labels, recording_example
from mlfem_jax.gaze import Box, FitRule, fit, move_box, move_fixations, scale_sigma
from mlfem_jax.photos import own_frame, read_photo, resize_photo, stored_size

FRAMED = b"P6\n# stretched by mlfem prepare --frame\n"
"""How a stored image starts that is no longer the photograph: see `framed`."""


@dataclasses.dataclass(frozen=True)
class ExampleFormat:
    """What every example looks like, whatever its record: shapes are static, so nothing downstream retraces.

    Attributes:
        shape: (height, width) in pixels of the frame that every photograph is resized into.
        max_fixations: length to which the list of fixations is padded; `scan` finds what a data set needs.
        rule: "stretch" the photograph, or "letterbox" it on black.
        classes: number of classes of the multi-hot labels; 0 leaves labels out.
        density: whether to read the released density maps too.
    """

    shape: tuple[int, int]
    max_fixations: int
    rule: FitRule = "stretch"
    classes: int = 0
    density: bool = False

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.shape) < 1 or min(self.max_fixations, self.classes) < 0:
            raise ValueError(
                f"shape, max_fixations, classes: expected a shape above 0, and counts of 0 or more, got {self.shape}, "
                f"{self.max_fixations} and {self.classes}"
            )


def image_frames(
    sizes: Int[np.ndarray, "N 2"], frame: tuple[int, int] | None, size: tuple[int, int], *, step: int
) -> tuple[tuple[int, int], ...]:
    """The frame of each photograph: its own, of about as many pixels as `frame`; without one, `size`.

    Args:
        sizes: (height, width) of the photographs, in pixels.
        frame: (height, width) whose number of pixels is wanted, see `mlfem_jax.photos.own_frame`.
        size: of the network's input.
        step: sides are multiples of it, see `mlfem_jax.photos.own_frame`.

    Example:
        >>> image_frames(np.array([[600, 800], [1024, 768]]), (384, 512), (224, 224), step=32)
        ((384, 512), (512, 384))
    """
    if frame is None:
        return (size,) * len(sizes)
    return tuple(own_frame((int(height), int(width)), frame, step=step) for height, width in sizes)


def blank_example(example_format: ExampleFormat | RecordingFormat) -> dict[str, np.ndarray]:
    """The example that fills up the last batch: no id, mask False, a black image, nothing known.

    Args:
        example_format: shapes.

    Returns:
        The fields of `Batch` without the leading axis; `density` only if `format.density`.
    """
    if isinstance(example_format, RecordingFormat):
        return blank_recording(example_format)
    count = example_format.max_fixations
    example = {
        "images": np.zeros((*example_format.shape, 3), np.uint8),
        "mask": np.array(False),
        "ids": np.array(""),
        "fixations": np.zeros((count, 2), np.float32),
        "fixation_mask": np.zeros(count, bool),
        "observers": np.full(count, -1, np.int32),
        "durations": np.full(count, np.nan, np.float32),
        "labels": np.zeros(example_format.classes, bool),
        "clutter": np.array(-1, np.int32),
        "content_box": np.zeros(4, np.int32),
        "photo_box": np.zeros(4, np.int32),
        "size": np.zeros(2, np.int32),
        "scale": np.ones(2, np.float32),
    }
    return example | {"density": np.zeros(example_format.shape, np.float32)} if example_format.density else example


def photo_record(path: str | Path) -> dict[str, Any]:
    """A photograph as the record of a prepared data set: nobody looked at it, and it has no labels.

    A list of them is a `Source`: `mlfem_jax.scores.score_records` scores methods on it against the network.

    Args:
        path: the file; its name without the suffix is the record's id.

    Returns:
        The fields that `make_example` reads; the image as the file's bytes.

    Raises:
        OSError: there is no such file.
        ValueError: naming the file, if it does not decode.

    Example:
        >>> from PIL import Image
        >>> Image.new("RGB", (4, 3)).save("black.png")
        >>> photo_record("black.png")["size"].tolist()
        [3, 4]
    """
    encoded = Path(path).read_bytes()
    (height, width), _ = stored_size(encoded, name=str(path))
    return {
        "image": encoded,
        "id": Path(path).stem,
        "size": np.array([height, width], np.int32),
        "fixations": np.zeros((0, 2), np.float32),
        "observers": np.zeros(0, np.int32),
        "durations": np.zeros(0, np.float32),
        "density": b"",
        "labels": np.zeros(0, np.int32),
        "clutter": np.int32(-1),
        "content_box": np.array([0, 0, height, width], np.int32),
    }


def make_example(record: Mapping[str, Any], example_format: ExampleFormat | RecordingFormat) -> dict[str, np.ndarray]:
    """A record decoded, resized and padded; see `recording_example` of recordings.

    Args:
        record: a record of a prepared data set.
        example_format: shapes, and how to resize.

    Returns:
        The fields of `Batch` without the leading axis; `density` only if `format.density`.

    Raises:
        ValueError: naming the record: if its image does not decode, has another size than recorded, or was framed
            smaller than it is wanted; if it has more than `max_fixations` fixations, or if a label is not below
            `classes`.
    """
    image_id = record_id(record)
    if isinstance(example_format, RecordingFormat):
        return recording_example(record, image_id, example_format)
    shape = _recorded_size(record)
    box = fit(shape, example_format.shape, rule=example_format.rule)
    y0, x0, y1, x1 = box
    example = blank_example(example_format)
    photo = _resized_photo(record, (y1 - y0, x1 - x0))
    if photo.shape == example["images"].shape:
        example["images"] = photo
    else:
        example["images"][y0:y1, x0:x1] = photo
    count = len(record["fixations"])
    if count > example_format.max_fixations:
        raise ValueError(
            f"record {image_id!r}: expected at most max_fixations={example_format.max_fixations} fixations, got {count}"
        )
    example["fixations"][:count] = move_fixations(record["fixations"], shape, box)
    example["fixation_mask"][:count] = True
    example["observers"][:count] = record["observers"]
    example["durations"][:count] = record["durations"]
    if example_format.classes:
        example["labels"][checked_labels(record["labels"], image_id, example_format.classes)] = True
    top, left, bottom, right = (int(side) for side in record["content_box"])
    return example | {
        "mask": np.array(True),
        "ids": np.array(image_id),
        "clutter": np.asarray(record["clutter"], np.int32),
        "content_box": np.array(move_box((top, left, bottom, right), shape, box), np.int32),
        "photo_box": np.array([top, left, bottom, right], np.int32),
        "size": np.array(shape, np.int32),
        "scale": scale_sigma(1.0, shape, box),
        **({"density": decode_density(record, example_format.shape, box)} if example_format.density else {}),
    }


def framed(encoded: bytes, frame: tuple[int, int], *, name: str) -> bytes:
    r"""A photograph stretched to a frame and stored there, so that it is read without decoding a JPEG.

    Args:
        encoded: the bytes of an image file.
        frame: (height, width) in pixels.
        name: what errors call it.

    Returns:
        The bytes of a PPM file, which start with `FRAMED`.

    Raises:
        ValueError: it does not decode.

    Example:
        >>> framed(b"P5 1 1 255\n\x07", (1, 2), name="dot")[-6:]
        b'\x07\x07\x07\x07\x07\x07'
    """
    pixels = resize_photo(read_photo(encoded, upright=False, name=name), frame)
    return FRAMED + f"{frame[1]} {frame[0]} 255\n".encode() + pixels.tobytes()


def record_id(record: Mapping[str, Any]) -> str:
    """The id of a record, which TFDS returns as bytes."""
    image_id = record["id"]
    return image_id.decode() if isinstance(image_id, bytes) else str(image_id)


def decode_photo(record: Mapping[str, Any]) -> UInt8[np.ndarray, "H W 3"]:
    """The photograph of a record as `read_photo` gives it, but never turned: fixations are in the stored frame.

    Args:
        record: a record of a prepared data set.

    Returns:
        (H, W, 3), 0 to 255.

    Raises:
        ValueError: naming the record, if its image does not decode, has another size than recorded, or is only there
            as `mlfem prepare --frame` has stretched it.
    """
    if record["image"].startswith(MAGIC):
        raise ValueError(f"record {record_id(record)!r}: expected a photograph, got a recording")
    if record["image"].startswith(FRAMED):
        raise ValueError(
            f"record {record_id(record)!r}: expected the photograph, got what `mlfem prepare --frame` made of it; "
            "prepare the data set without --frame"
        )
    photo = read_photo(record["image"], upright=False, name=f"image of record {record_id(record)!r}")
    recorded = _recorded_size(record)
    if photo.shape[:2] != recorded:
        raise ValueError(
            f"record {record_id(record)!r}: expected an image of {recorded}, as is recorded, got {photo.shape[:2]}"
        )
    return photo


def _resized_photo(record: Mapping[str, Any], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    if not record["image"].startswith(FRAMED):
        return resize_photo(decode_photo(record), size)
    pixels = _framed_pixels(record)
    frame = pixels.shape[:2]
    if min(frame[0] - size[0], frame[1] - size[1]) < 0:
        raise ValueError(
            f"record {record_id(record)!r}: expected at most {frame}, for which `mlfem prepare --frame` stored it, "
            f"got {size}"
        )
    return pixels if frame == size else resize_photo(pixels, size)


def _framed_pixels(record: Mapping[str, Any]) -> UInt8[np.ndarray, "h w 3"]:
    """What `framed` stored: without Pillow, which takes longer than all else there is to do."""
    encoded = record["image"]
    start = encoded.index(b"\n", len(FRAMED)) + 1
    width, height, _ = map(int, encoded[len(FRAMED) : start].split())
    if len(encoded) - start != height * width * 3:
        raise ValueError(
            f"image of record {record_id(record)!r}: expected {height * width * 3} bytes of pixels, got "
            f"{len(encoded) - start}"
        )
    return np.frombuffer(encoded, np.uint8, offset=start).reshape(height, width, 3)


def _recorded_size(record: Mapping[str, Any]) -> tuple[int, int]:
    if len(record["size"]) != 2:
        raise ValueError(f"record {record_id(record)!r}: expected a photograph, got a recording")
    height, width = (int(side) for side in record["size"])
    return height, width


def decode_density(record: Mapping[str, Any], shape: tuple[int, int], box: Box) -> Float32[np.ndarray, "H W"]:
    """The released density map of a record, in the frame that the photograph is resized into.

    Args:
        record: a record of a prepared data set.
        shape: (height, width) of the frame, in pixels.
        box: where the photograph lands in it, from `mlfem_jax.gaze.frames.fit`.

    Returns:
        (H, W) not negative, sums to 1; all zeros where the map is blank or none was released.

    Raises:
        ValueError: naming the record, where `read_density` refuses the map.
    """
    density = np.zeros(shape, np.float32)
    if record["density"]:
        y0, x0, y1, x1 = box
        released = read_density(record["density"], f"density map of record {record_id(record)!r}")
        # Divided before it is summed: a map of large numbers would not have a finite sum.
        scaled = Image.fromarray(released / max(released.max(), np.finfo(np.float32).tiny))
        density[y0:y1, x0:x1] = np.asarray(scaled.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR))
    total = density.sum()
    return density / total if total > 0 else density
