"""Files of sound, film, volumes and arrays to numbers."""

import dataclasses
import itertools
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Num, Shaped

from mlfem_jax.files import printable

FILM_SUFFIXES = frozenset(".avi .mkv .mov .mp4 .webm".split())
SOUND_SUFFIXES = frozenset(".flac .m4a .mp3 .ogg .wav".split())
RECORDING_SUFFIXES = FILM_SUFFIXES | SOUND_SUFFIXES | {".gz", ".nii", ".npy"}
MOST_NUMBERS = 2**28
"""Of a recording, a quarter of a thousand million: 4 hours of sound, 19 of the small frames that TransNetV2 takes."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """What a file holds.

    Attributes:
        values: (T,) of sound, (T, H, W, 3) uint8 of film, (z, y, x) of a volume; of an array its own shape.
        scale: how many of these samples one sample of the file is, along each axis that was resampled from the first
            on: (rate / own rate,) of sound, (1, height / own height, width / own width) of film.
        samples_per_s: of sound.
    """

    values: Shaped[np.ndarray, "T ..."]
    scale: tuple[float, ...] = ()
    samples_per_s: int | None = None


def read_recording_file(
    file: Path, *, sound: bool, samples_per_s: int | None = None, frame: tuple[int, int] | None = None
) -> Recording:
    """What a file holds: a `.npy` file the numbers themselves, a `.nii` or `.nii.gz` a volume, its axes (z, y, x).

    Of anything else PyAV decodes the first sound, as one channel; or the first film, every frame.

    Args:
        file: its suffix tells which of the three it is.
        sound: whether it is its sound that is wanted, of what PyAV decodes, or its film.
        samples_per_s: that sound gets. Default: its own.
        frame: (height, width) in pixels that frames of film get. Default: their own.

    Raises:
        ValueError: the file is missing, damaged, too large, or holds no finite real numbers; names it.
        ModuleNotFoundError: PyAV or nibabel is not installed.
    """
    try:
        name = file.name.lower()
        if name.endswith(".npy"):
            found = Recording(np.load(file, mmap_mode="r", allow_pickle=False))
        elif name.endswith((".nii", ".nii.gz")):
            found = Recording(_volume(file))
        else:
            found = _sound(file, samples_per_s) if sound else _film(file, frame)
    except (OSError, ValueError, EOFError) as error:  # PyAV's errors are among them
        message = " ".join(str(error).split())
        wrong = message if message.startswith("expected ") else f"expected a recording, got {message}"
        found_in = f"{printable(str(file))}: {wrong}"
        raise ValueError(found_in) from error
    values = found.values
    if values.ndim < 1 or not 0 < values.size <= MOST_NUMBERS or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{printable(str(file))}: expected numbers, at most {MOST_NUMBERS:,}, got {values.shape} of {values.dtype}"
        )
    return found


def as_stored(values: Num[np.ndarray, "*S"], file: Path) -> Num[np.ndarray, "*S"]:
    """The numbers of a file as uint8, if they are that, or float32.

    Raises:
        ValueError: some are NaN or infinite, or too large for float32; names the file and counts them.
    """
    values = np.asarray(values)
    if values.dtype == np.uint8:
        return values
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not (finite := np.isfinite(values)).all():
        raise ValueError(f"{printable(str(file))}: expected finite numbers, got {(~finite).sum()} that are not")
    return values


def _sound(file: Path, samples_per_s: int | None) -> Recording:
    import av

    with av.open(str(file)) as container:
        if not container.streams.audio:
            raise ValueError("expected a sound, got a file without one")
        own = container.streams.audio[0].rate
        rate = samples_per_s or own
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        frames = itertools.chain(container.decode(audio=0), [None])
        parts = kept(part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame))
    return Recording(np.concatenate(parts), (rate / own,), rate)


def _film(file: Path, frame: tuple[int, int] | None) -> Recording:
    import av

    with av.open(str(file)) as container:
        if not container.streams.video:
            raise ValueError("expected a film, got a file without one")
        stream = container.streams.video[0]
        own = stream.height, stream.width
        height, width = frame or own
        frames = container.decode(video=0)
        parts = kept(picture.reformat(width, height, "rgb24").to_ndarray() for picture in frames)
    return Recording(np.stack(parts), (1.0, height / own[0], width / own[1]))


def kept(parts: Iterable[np.ndarray]) -> list[np.ndarray]:
    """What is decoded, part after part, as long as it is not too much."""
    found, numbers = [], 0
    for part in parts:
        numbers += part.size
        if numbers > MOST_NUMBERS:
            raise ValueError(f"expected at most {MOST_NUMBERS:,} numbers, got more in {len(found) + 1} parts")
        found.append(part)
    if not found:
        raise ValueError("expected a recording of some length, got one without")
    return found


def _volume(file: Path) -> Num[np.ndarray, "..."]:
    """The voxels as (z, y, x), or (y, x); what further axes there are stay last."""
    import nibabel

    try:
        image = nibabel.Nifti1Image.from_filename(file)
        if math.prod(image.shape) > MOST_NUMBERS:
            raise ValueError(f"expected at most {MOST_NUMBERS:,} voxels, got shape {image.shape}")
        values = np.asarray(image.dataobj, np.float32)
        places = range(min(3, values.ndim))
        return np.moveaxis(values, places, places[::-1])  # from (x, y, z)
    except nibabel.filebasedimages.ImageFileError as error:
        raise ValueError(str(error)) from error
