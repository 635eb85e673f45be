"""Sound, series, film and volumes of one's own, with a table of where the events are, or where people looked."""

import dataclasses
import functools
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num, Shaped

from mlfem_jax.data.decode import FILM_SUFFIXES, RECORDING_SUFFIXES, SOUND_SUFFIXES, check_finite, read_recording_file
from mlfem_jax.data.releases.files import check_file, named
from mlfem_jax.data.releases.folder import read_labels
from mlfem_jax.data.releases.names import by_path, find_files, match_names
from mlfem_jax.data.releases.records import ALL, Dataset, Example, Gaze, Problems, Release, clean_gaze
from mlfem_jax.data.releases.tables import Row, cell_number, column_names, read_csv
from mlfem_jax.gaze import check_sigma

_PLACES = (("t",), ("y", "x"), ("t", "y", "x"), ("z", "y", "x"))
"""The columns that may say where an event is, first axis first."""
_WORDS = ("recordings", "events", "recording", "sample")


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


_WHOLE = Cut()


@dataclasses.dataclass(frozen=True)
class Form:
    """What all recordings of a data set have in common, found in the first.

    Attributes:
        name: of the first.
        shape: of an example, channels last where it has them.
        dtype: of its numbers: uint8 of film, else float32.
        scale: samples of an example to a sample of the file, along each axis of an event.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]


def recordings_as(root: Path, cut: Cut, sigma_px: float | tuple[float, ...] | None) -> tuple[Dataset, Form]:
    """The data set of the recordings below `root`, read in a certain way; and the form of its examples.

    Args:
        root: holds `recordings` and `events.csv`.
        cut: how recordings become examples.
        sigma_px: of the Gaussian on each event, in samples of the files: one number, or one for each axis of an event.

    Returns:
        The data set, whose `sigma_px` is in samples of the examples, along each axis; and their form.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: a file or table is damaged, or of another form than is expected; names it.
    """
    places, form = _places(root / "events.csv"), form_of(root, cut)
    axes = len(places)
    sigmas = sigma_px if isinstance(sigma_px, tuple) else (sigma_px,) * axes
    if None in sigmas or len(sigmas) not in (1, axes):
        raise ValueError(
            f"sigma_px: expected one number of samples, or one for each of {', '.join(places)}, got "
            f"{'none' if sigma_px is None else sigma_px}"
        )
    sigmas = sigmas * axes if len(sigmas) < axes else sigmas
    scaled = tuple(float(sigma) * by for sigma, by in zip(sigmas, form.scale, strict=True) if sigma is not None)
    for sigma in scaled:
        check_sigma(sigma)
    dataset = dataclasses.replace(
        RECORDINGS,
        read=functools.partial(read_recordings, cut=cut, form=form),
        axes=axes,
        sigma_px=scaled,
        sigma_source=f"{sigma_px} in samples of the files",
    )
    return dataset, form


def form_of(root: Path, cut: Cut) -> Form:
    """The form of the first recording below `root`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or has not the axes that the events have.
    """
    files = _files(root, Problems())
    if not files:
        suffixes = ", ".join(sorted(RECORDING_SUFFIXES - {".gz"}))
        raise FileNotFoundError(f"{named(root / 'recordings')}: expected files ({suffixes}), got none")
    first = next(iter(files.values()))
    values, scale = _read(first, cut, len(_places(root / "events.csv")))
    return Form(named(first), (cut.length or len(values), *values.shape[1:]), str(values.dtype), scale)


def read_recordings(root: Path, problems: Problems, *, cut: Cut = _WHOLE, form: Form | None = None) -> Release:
    """The data below `root`: recordings/** and events.csv; labels.csv where there is one.

    events.csv has the columns recording and t, or y and x, or t (or z), y and x: where an event is, or where somebody
    looked, in samples, frames and pixels of the file, 0-based; and, optionally, observer and duration (ms). labels.csv
    has recording and label. Names are matched as those of images are.
    """
    form = form or form_of(root, cut)
    folder, table = root / "recordings", root / "events.csv"
    files = _files(root, problems)
    events = _events(table, files, folder)
    problems.add_all("recordings without events (left out)", files.keys() - events.keys())
    problems.add_all("events without a recording (left out)", events.keys() - files.keys())
    class_names, labels, _ = read_labels(root / "labels.csv", "recording", files, folder, RECORDING_SUFFIXES)
    problems.add_all("labels without a recording (left out)", labels.keys() - files.keys())

    def read(recording_id: str) -> list[Example]:
        values, scale = _read(files[recording_id], cut, len(form.scale))
        whole = np.round(np.array(values.shape[: len(scale)]) / scale).astype(int)  # in samples of the file
        gaze = clean_gaze(events[recording_id], tuple(whole.tolist()), recording_id, problems, words=_WORDS)
        _check_form(values, scale, files[recording_id], cut, form)
        moved = dataclasses.replace(gaze, fixations=(gaze.fixations + 0.5) * scale - 0.5)
        numbers = tuple(class_names.index(name) for name in sorted(labels.get(recording_id, ())))
        examples = _windows(values, moved, recording_id, form, numbers)
        cuts = -(-len(values) // form.shape[0])
        problems.add("windows without events (left out)", recording_id, cuts - len(examples) if examples else 0)
        problems.add("recordings without events (left out)", recording_id, not examples)
        return examples

    return Release({ALL: tuple(name for name in files if name in events)}, read, class_names)


def _windows(
    values: Num[np.ndarray, "T ..."], gaze: Gaze, recording_id: str, form: Form, labels: tuple[int, ...]
) -> list[Example]:
    """An example for each window that has an event; what is shorter is filled up with its last sample."""
    length, shape = form.shape[0], form.shape[: len(form.scale)]
    first = np.floor(gaze.fixations[:, 0] + 0.5).clip(0, len(values) - 1)  # the sample that the event rounds to
    examples = []
    for start in range(0, len(values), length):
        own = (first >= start) & (first < start + length)
        if not own.any():
            continue
        places = np.minimum(np.arange(start, start + length), len(values) - 1)
        end = min(len(values) - start, length)
        examples.append(
            Example(
                image=_encoded(values[places]),
                id=recording_id if len(values) <= length else f"{recording_id}@{start}",
                size=shape,
                fixations=(gaze.fixations[own] - _along_first(start, len(shape))).astype(np.float32),
                observers=gaze.observers[own].astype(np.int32),
                durations=gaze.durations[own].astype(np.float32),
                density=b"",
                labels=labels,
                clutter=-1,
                content_box=(0,) * len(shape) + (end, *shape[1:]),
            )
        )
    return examples


def _along_first(start: int, axes: int) -> Float[np.ndarray, "1 axes"]:
    return np.array([[start] + [0] * (axes - 1)], float)


def _encoded(values: np.ndarray) -> bytes:
    """The bytes of a NumPy file."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(values))
    return file.getvalue()


def _read(file: Path, cut: Cut, axes: int) -> tuple[Shaped[np.ndarray, "T ..."], tuple[float, ...]]:
    """The numbers of a file, uint8 or float32, and their scale along the axes of an event."""
    check_file(file, "it should hold a recording")
    suffix = file.suffix.lower()
    found = read_recording_file(
        file, sound=suffix in SOUND_SUFFIXES, samples_per_s=cut.samples_per_s, frame=cut.frame
    )  # fmt: skip
    values = np.asarray(found.values)
    check_finite(values, file)
    allowed = (1,) if suffix in SOUND_SUFFIXES else (1, 3) if suffix in FILM_SUFFIXES else range(1, values.ndim + 1)
    if axes not in allowed:
        raise ValueError(
            f"{named(file)}: expected events with {' or '.join(map(str, allowed))} coordinates for an array of shape "
            f"{values.shape}, got {axes}"
        )
    values = values if values.dtype == np.uint8 else values.astype(np.float32)
    return values, (*found.scale, *[1.0] * axes)[:axes]


def _check_form(values: np.ndarray, scale: tuple[float, ...], file: Path, cut: Cut, form: Form) -> None:
    """Refuses what cannot be in one batch with the first recording, or has another sigma."""
    shape = (len(values) if cut.length is None else form.shape[0], *values.shape[1:])
    if (shape, str(values.dtype)) != (form.shape, form.dtype):
        advice = "; --length cuts all into windows of one length" if shape[1:] == form.shape[1:] else ""
        raise ValueError(
            f"{named(file)}: expected {form.shape} of {form.dtype}, as in {form.name}, got {shape} of {values.dtype}"
            f"{advice}"
        )
    if not np.allclose(scale, form.scale):
        raise ValueError(
            f"{named(file)}: expected the rate, or the frames, of {form.name}, for one sigma to serve both, got others "
            f"(resampled by {scale}, not {form.scale})"
        )


def _files(root: Path, problems: Problems) -> dict[str, Path]:
    """Id to recording."""
    folder = root / "recordings"
    return by_path(find_files(folder, problems, RECORDING_SUFFIXES, deep=True), folder, problems)


def _places(table: Path) -> tuple[str, ...]:
    """The columns of events.csv that say where an event is."""
    names = column_names(table)
    found = [places for places in _PLACES if set(places) == set(names) & {"t", "z", "y", "x"}]
    if not found:
        raise ValueError(
            f"{named(table)}: expected the columns recording and t, or y and x, or t (or z), y and x, got "
            f"{', '.join(names) or 'none'}"
        )
    return found[0]


def _events(table: Path, files: Mapping[str, Path], folder: Path) -> dict[str, Gaze]:
    """Recording id to its events, in samples of the file."""
    places = _places(table)
    rows = read_csv(table, ("recording", *places))
    names = dict.fromkeys(row.cells["recording"] for row in rows)
    matched = match_names(names, files, folder, table, RECORDING_SUFFIXES)
    seen = {row.cells.get("observer", "").strip() for row in rows} - {""}
    observers = {observer: number for number, observer in enumerate(sorted(seen))} | {"": -1}
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = row.cells["recording"]
        found.setdefault(matched.get(name, name), []).append(row)

    def gaze(own: list[Row]) -> Gaze:
        points = [[cell_number(row, place, table) for place in places] for row in own]
        durations = [cell_number(row, "duration", table) for row in own]
        who = [observers[row.cells.get("observer", "").strip()] for row in own]
        return Gaze(np.array(points, float), np.array(who), np.array(durations, float))

    return {name: gaze(own) for name, own in found.items()}


RECORDINGS = Dataset(
    name="recordings",
    read=read_recordings,
    layouts=(("recordings", "events.csv"),),
    tree="""\
recordings/**            (.wav, .flac, .mp3, ...; .mp4, .mkv, ...; .nii.gz; .npy; subfolders too)
events.csv               (columns recording and t, or y, x, or t, y, x: 0-based samples, frames, pixels of the file;
                         observer and duration in ms are optional)
labels.csv               (optional: columns recording, label)""",
    homepage="your own experiment",
    sigma_px=None,
    sigma_source="depends on the experiment: give samples of the files, one number or one for each axis",
    holds="recordings with events",
)
