"""How recordings become examples of one form: each file read, and held to the first."""

import dataclasses
from pathlib import Path

import numpy as np

from mlfem_jax.data.decode import FILM_SUFFIXES, SOUND_SUFFIXES, Recording, as_stored, read_recording_file
from mlfem_jax.data.releases.files import check_file, named


@dataclasses.dataclass(frozen=True)
class Cut:
    """How recordings become examples.

    Attributes:
        length: samples, or frames, of each window that a recording is cut into. Default: it stays whole.
        frame: (height, width) in pixels that frames of film get. Default: their own.
        samples_per_s: that sound gets. Default: its own.
    """

    length: int | None = None
    frame: tuple[int, int] | None = None
    samples_per_s: int | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        numbers = (self.length, self.samples_per_s, *(self.frame or ()))
        if any(number is not None and number < 1 for number in numbers):
            raise ValueError(f"length, frame and samples_per_s: expected numbers above 0, got {self}")


WHOLE = Cut()


@dataclasses.dataclass(frozen=True)
class Form:
    """What all recordings of a data set have in common, found in the first with events.

    Attributes:
        name: of its file.
        shape: of an example, channels last where it has them.
        dtype: of its numbers: uint8 of film, else float32.
        scale: samples of an example to a sample of the file, along each axis of an event.
        samples_per_s: of sound, as it is stored.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    samples_per_s: int | None = None


def read_cut(file: Path, cut: Cut, axes: int) -> Recording:
    """The numbers of a file, uint8 or float32, and their scale along the `axes` of an event.

    Raises:
        ValueError: the file is missing or damaged, an option is not for such files, or events have other axes.
    """
    check_file(file, "it should hold a recording")
    sound, film = (file.suffix.lower() in suffixes for suffixes in (SOUND_SUFFIXES, FILM_SUFFIXES))
    for name, given, taken, kind in (
        ("frame", cut.frame, film, "film"),
        ("samples_per_s", cut.samples_per_s, sound, "sound"),
    ):
        if given is not None and not taken:
            raise ValueError(f"{name}: expected none but for {kind}, got {given} for {named(file)}")
    found = read_recording_file(file, sound=sound, samples_per_s=cut.samples_per_s, frame=cut.frame)
    values = as_stored(found.values, file)
    allowed = (1,) if sound else (1, 3) if film else range(1, values.ndim + 1)
    if axes not in allowed:
        raise ValueError(
            f"{named(file)}: expected events with {' or '.join(map(str, allowed))} coordinates for an array of shape "
            f"{values.shape}, got {axes}"
        )
    return Recording(values, (*found.scale, *[1.0] * axes)[:axes], found.samples_per_s)


def form_of(file: Path, cut: Cut, axes: int) -> Form:
    """The form of the examples that a file gives; see `read_cut`."""
    found = read_cut(file, cut, axes)
    shape = (cut.length or len(found.values), *found.values.shape[1:])
    return Form(named(file), shape, str(found.values.dtype), found.scale, found.samples_per_s)


def check_form(found: Recording, file: Path, cut: Cut, form: Form) -> None:
    """Refuses what cannot be in one batch with the first recording, or has another rate or sigma."""
    values = found.values
    shape = (len(values) if cut.length is None else form.shape[0], *values.shape[1:])
    if (shape, str(values.dtype)) != (form.shape, form.dtype):
        advice = "; --length cuts all into windows of one length" if shape[1:] == form.shape[1:] else ""
        raise ValueError(
            f"{named(file)}: expected {form.shape} of {form.dtype}, as in {form.name}, got {shape} of {values.dtype}"
            f"{advice}"
        )
    if found.samples_per_s != form.samples_per_s:
        raise ValueError(
            f"{named(file)}: expected {form.samples_per_s} samples a second, as in {form.name}, got "
            f"{found.samples_per_s}; --samples-per-s gives all sound one rate"
        )
    if not np.allclose(found.scale, form.scale):
        raise ValueError(
            f"{named(file)}: expected the rate, or the frames, of {form.name}, for one sigma to serve both, got others "
            f"(resampled by {found.scale}, not {form.scale})"
        )
