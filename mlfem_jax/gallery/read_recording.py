"""Files of sound, film, volumes and arrays to what a network of such data takes."""

import itertools
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Num, Shaped

from mlfem_jax.backbones import RECORDED, Backbone
from mlfem_jax.files import printable

RECORDING_SUFFIXES = frozenset(".avi .flac .gz .m4a .mkv .mov .mp3 .mp4 .nii .npy .ogg .wav .webm".split())
MOST_NUMBERS = 2**28
"""Of a recording, a quarter of a thousand million: 4 hours of sound, 19 of the small frames that TransNetV2 takes."""


def read_recording(file: Path, backbone: Backbone) -> Shaped[np.ndarray, "T ..."]:
    """What a file holds, as the network takes it, of any length along the first axis.

    A `.npy` file holds the numbers themselves, a `.nii` or `.nii.gz` a volume. Of anything else PyAV decodes what the
    network takes: the first sound, as one channel at its rate; or the first film, every frame at its size.

    Args:
        file: its suffix tells which of the three it is.
        backbone: of `crepe_tiny` it gets 16,000 samples a second.

    Returns:
        (T, ...), one channel without an axis for it.

    Raises:
        ValueError: the file is missing, damaged, too large, of another shape, or holds NaN or infinity; names it.
        ModuleNotFoundError: PyAV or nibabel is not installed.
    """
    try:
        if file.suffix == ".npy":
            found = np.load(file, mmap_mode="r", allow_pickle=False)
        elif file.name.endswith((".nii", ".nii.gz")):
            found = _volume(file)
        elif len(backbone.input_size) == 1:
            found = _sound(file, RECORDED[backbone.name].samples_per_s)
        else:
            found = _film(file, backbone.input_size[1:])
    except (OSError, ValueError, EOFError) as error:  # PyAV's errors are among them
        message = " ".join(str(error).split())
        wrong = message if message.startswith("expected ") else f"expected a recording, got {message}"
        found_in = f"{printable(str(file))}: {wrong}"
        raise ValueError(found_in) from error
    wanted = backbone.input_shape[1:-1] if backbone.channels == 1 else backbone.input_shape[1:]
    if backbone.channels == 1 and found.shape[1:] == (*wanted, 1):
        found = found[..., 0]
    if (
        found.ndim < 1
        or found.shape[1:] != wanted
        or not 0 < found.size <= MOST_NUMBERS
        or found.dtype.kind not in "fiu"
    ):
        raise ValueError(
            f"{printable(str(file))}: expected numbers of shape {('T', *wanted)}, at most {MOST_NUMBERS:,}, got "
            f"{found.shape} of {found.dtype}"
        )
    if not (finite := np.isfinite(found)).all():
        raise ValueError(f"{printable(str(file))}: expected finite numbers, got {(~finite).sum()} that are not")
    return np.asarray(found)


def _sound(file: Path, samples_per_s: int | None) -> Num[np.ndarray, " T"]:
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=samples_per_s)
    with av.open(str(file)) as container:
        if not container.streams.audio:
            raise ValueError("expected a sound, got a file without one")
        frames = itertools.chain(container.decode(audio=0), [None])
        return np.concatenate(_kept(part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)))


def _film(file: Path, size: tuple[int, ...]) -> Num[np.ndarray, "T H W 3"]:
    import av

    height, width = size
    with av.open(str(file)) as container:
        if not container.streams.video:
            raise ValueError("expected a film, got a file without one")
        frames = container.decode(video=0)
        return np.stack(_kept(frame.reformat(width, height, "rgb24").to_ndarray() for frame in frames))


def _kept(parts: Iterable[np.ndarray]) -> list[np.ndarray]:
    """What is decoded, part after part, as long as it is not too much."""
    kept, numbers = [], 0
    for part in parts:
        numbers += part.size
        if numbers > MOST_NUMBERS:
            raise ValueError(f"expected at most {MOST_NUMBERS:,} numbers, got more in {len(kept) + 1} parts")
        kept.append(part)
    if not kept:
        raise ValueError("expected a recording of some length, got one without")
    return kept


def _volume(file: Path) -> Num[np.ndarray, "D H W"]:
    import nibabel

    try:
        image = nibabel.Nifti1Image.from_filename(file)
        if math.prod(image.shape) > MOST_NUMBERS:
            raise ValueError(f"expected at most {MOST_NUMBERS:,} voxels, got shape {image.shape}")
        return np.asarray(image.dataobj, np.float32)
    except nibabel.filebasedimages.ImageFileError as error:
        raise ValueError(str(error)) from error
