"""Sound, series, film and volumes of one's own, with a table of where the events are, or where people looked."""

import dataclasses
import functools
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from mlfem_jax.data.decode import RECORDING_SUFFIXES
from mlfem_jax.data.recording import windows
from mlfem_jax.data.releases.files import named
from mlfem_jax.data.releases.folder import read_labels
from mlfem_jax.data.releases.names import by_path, find_files, match_names
from mlfem_jax.data.releases.recording_form import WHOLE, Cut, Form, check_form, form_of, read_cut
from mlfem_jax.data.releases.records import ALL, Dataset, Example, Gaze, Problems, Release, clean_gaze
from mlfem_jax.data.releases.tables import Row, cell_number, column_names, read_csv
from mlfem_jax.gaze import check_sigma

_PLACES = (("t",), ("y", "x"), ("t", "y", "x"), ("z", "y", "x"))
"""The columns that may say where an event is, first axis first."""
_WORDS = ("recordings", "events", "recording", "sample")


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
    places, form = _places(root / "events.csv"), _form(root, cut)
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


def _form(root: Path, cut: Cut) -> Form:
    """The form of the first recording below `root` that has events.

    Raises:
        FileNotFoundError: there is no recording.
        ValueError: it is damaged, or has not the axes that the events have.
    """
    files, table = _files(root, Problems()), root / "events.csv"
    if not files:
        suffixes = ", ".join(sorted(RECORDING_SUFFIXES - {".gz"}))
        raise FileNotFoundError(f"{named(root / 'recordings')}: expected files ({suffixes}), got none")
    events = _events(table, files, root / "recordings")
    first = next((path for name, path in files.items() if name in events), next(iter(files.values())))
    return form_of(first, cut, len(_places(table)))


def read_recordings(root: Path, problems: Problems, *, cut: Cut = WHOLE, form: Form | None = None) -> Release:
    """The data below `root`: recordings/** and events.csv; labels.csv where there is one.

    events.csv has the columns recording and t, or y and x, or t (or z), y and x: where an event is, or where somebody
    looked, in samples, frames and pixels of the file, 0-based; and, optionally, observer and duration (ms). labels.csv
    has recording and label. Names are matched as those of images are.
    """
    form = form or _form(root, cut)
    folder, table = root / "recordings", root / "events.csv"
    files = _files(root, problems)
    events = _events(table, files, folder)
    problems.add_all("recordings without events (left out)", files.keys() - events.keys())
    problems.add_all("events without a recording (left out)", events.keys() - files.keys())
    class_names, labels, _ = read_labels(root / "labels.csv", "recording", files, folder, RECORDING_SUFFIXES)
    problems.add_all("labels without a recording (left out)", labels.keys() - files.keys())

    def read(recording_id: str) -> list[Example]:
        found = read_cut(files[recording_id], cut, len(form.scale))
        values, scale = found.values, found.scale
        whole = np.round(np.array(values.shape[: len(scale)]) / scale).astype(int)  # in samples of the file
        gaze = clean_gaze(events[recording_id], tuple(whole.tolist()), recording_id, problems, words=_WORDS)
        check_form(found, files[recording_id], cut, form)
        moved = dataclasses.replace(gaze, fixations=(gaze.fixations + 0.5) * scale - 0.5)
        numbers = tuple(class_names.index(name) for name in sorted(labels.get(recording_id, ())))
        examples = _windows(values, moved, recording_id, form, numbers)
        for name in {example.id for example in examples} - {recording_id} & events.keys() & files.keys():
            raise ValueError(
                f"{named(files[name])}: expected a name that no window has, got that of one of "
                f"{named(files[recording_id])}"
            )
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
    for number, window in enumerate(windows(values, length)):
        start = number * length
        own = (first >= start) & (first < start + length)
        if not own.any():
            continue
        end = min(len(values) - start, length)
        examples.append(
            Example(
                image=_encoded(window),
                id=recording_id if len(values) <= length else f"{recording_id}@{start}",
                recording=recording_id,
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

    events = {name: gaze(own) for name, own in found.items()}
    _check_samples(np.concatenate([np.zeros((0, len(places))), *(gaze.fixations for gaze in events.values())]), table)
    return events


def _check_samples(points: Float[np.ndarray, "n axes"], table: Path) -> None:
    """Refuses events of which nearly all lie in [-1, 1] along all axes, but for whole numbers: onsets may be at 0."""
    points = points[np.isfinite(points).all(axis=1)]
    small = (np.abs(points) <= 1).all(axis=1)
    if len(points) and small.mean() >= 0.9 and (points[small] % 1).any():
        raise ValueError(
            f"{named(table)}: expected events in samples, or frames and pixels, got {len(points)} of which nearly all "
            f"lie in [{0 if points.min() >= 0 else -1}, 1]; are they seconds, or shares of the recordings?"
        )


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
    recorded=True,
)
