"""What every gaze data set is read into: plain records, and a count of what was clipped or left out.

One rule for bad input, for every data set:

- Damage is an error that names the file and the record: a file that is there but cannot be read, a field that
  is missing, lists of unequal length, an id that occurs twice, fixations for a frame that is not the image's.
- Absence leaves the record out and is counted: an image without gaze, gaze without an image, a split whose
  truth was not released.
- Single fixations: one with a NaN is dropped; one up to a pixel outside the frame is moved onto its border;
  one farther out is dropped, or moved too where the release asks for it (SALICON). All are counted.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mlfem_jax.data.density import read_density
from mlfem_jax.data.releases.files import find_root, named
from mlfem_jax.files import printable
from mlfem_jax.photos import stored_size

_CONVERTED = {
    0: "Give x * width - 0.5 and y * height - 0.5",
    -1: "Give (x + 1) * width / 2 - 0.5 and (y + 1) * height / 2 - 0.5, if they count from the center",
}
ALL = "full"  # the split of a release that has none of its own; TFDS reserves the name "all"


@dataclasses.dataclass(frozen=True)
class Gaze:
    """Where people looked on one image.

    Attributes:
        fixations: (n, 2) as (y, x), 0-based pixels of the image; of a recording (n, axes), its events.
        observers: (n,), 0-based index of who looked; -1 where unknown.
        durations: (n,) in milliseconds; NaN where unknown.
    """

    fixations: Float[np.ndarray, "n axes"]
    observers: Int[np.ndarray, " n"]
    durations: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Example:
    """One image, or recording, with its gaze, in the one structure that all data sets share.

    Attributes:
        image: the encoded file as found on disk; of a recording the bytes of a NumPy file.
        id: unique in the data set.
        size: (height, width) of the image in pixels; of a recording the lengths of the axes of its events.
        fixations: float32 (n, 2) as (y, x), 0-based pixels of the image; of a recording (n, axes), its events.
        observers: int32 (n,), 0-based; -1 unknown.
        durations: float32 (n,) in milliseconds; NaN unknown.
        density: the encoded released density map where that is the only truth, else b"".
        labels: class indices; empty where unknown.
        clutter: number of things in the image; -1 unknown.
        content_box: (y0, x0, y1, x1), half-open: the image without the gray bars that pad it; of a recording from
            corner to corner likewise.
        recording: id of the recording that it is, or is a window of; of an image "", which is not stored.
    """

    image: bytes
    id: str
    size: tuple[int, ...]
    fixations: Float[np.ndarray, "n axes"]
    observers: Int[np.ndarray, " n"]
    durations: Float[np.ndarray, " n"]
    density: bytes
    labels: tuple[int, ...]
    clutter: int
    content_box: tuple[int, ...]
    recording: str = ""


@dataclasses.dataclass(frozen=True)
class Release:
    """A release that was found on disk and listed, not read yet.

    Attributes:
        splits: name of each split to the ids of its images.
        read: id to its Example, or None where it is left out (counted in the reader's Problems); of a recording to the
            examples of its windows.
        class_names: in the order of the labels; empty where the release has no classes.
    """

    splits: Mapping[str, tuple[str, ...]]
    read: Callable[[str], Example | list[Example] | None]
    class_names: tuple[str, ...] = ()


@dataclasses.dataclass
class Problems:
    """How often each kind of thing was clipped or left out, with the first records of each kind."""

    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    first: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def add(self, kind: str, record: str, count: int = 1) -> None:
        """Counts `count` more of `kind`, found in `record`; the first five records are kept by name, as it is shown."""
        if count:
            self.counts[kind] = self.counts.get(kind, 0) + count
            self.first.setdefault(kind, [])
            self.first[kind] += [printable(record) or "(no name)"] * (len(self.first[kind]) < 5)

    def add_all(self, kind: str, records: Iterable[str]) -> None:
        """Counts each of `records` once, in sorted order."""
        for record in sorted(records):
            self.add(kind, record)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """How one data set (or one configuration of it) is found, read and recorded.

    Attributes:
        name: as `mlfem prepare` takes it: "osie", or "salicon/2017" for a configuration.
        read: (root, problems) to the release found there.
        layouts: each a tuple of paths below the root; the root is where all paths of one of them exist.
        tree: the files that are expected, drawn for people.
        homepage: where to get the release.
        sigma_px: default standard deviation of the Gaussian on each fixation, in pixels; None where there is
            no good default.
        sigma_source: where that number comes from.
        subfolders: where the root may lie below the folder that the user names.
        published: split to its (images, fixations) in the complete release, where they tell releases apart.
        revision: raised when the same files are read into other records, so that what was built before is built anew.
        axes: of the events or fixations.
        holds: what there has to be, in words.
        recorded: whether it is of recordings, not images.
    """

    name: str
    read: Callable[[Path, Problems], Release]
    layouts: tuple[tuple[str, ...], ...]
    tree: str
    homepage: str
    sigma_px: float | tuple[float, ...] | None
    sigma_source: str
    subfolders: tuple[str, ...] = (".",)
    published: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    revision: int = 0
    axes: int = 2
    holds: str = "images with gaze"
    recorded: bool = False

    def root(self, source: Path) -> Path:
        """Where the release lies at or below `source`; FileNotFoundError with the expected tree."""
        return find_root(source, self.layouts, subfolders=self.subfolders, instructions=self.instructions)

    @property
    def instructions(self) -> str:
        """Where to get the release and which files it must have."""
        return f"{self.name}: get the release at {self.homepage} and unpack it. Expected:\n{self.tree}"


def make_gaze(viewings: Iterable[tuple[int, np.ndarray, np.ndarray | None]]) -> Gaze:
    """The gaze of several observers on one image, joined in order.

    Args:
        viewings: for each observer its index, fixations (n, 2) as (y, x) and durations (n,) in ms or None.

    Returns:
        The joined gaze; empty for no viewings.

    Example:
        >>> make_gaze([(3, np.array([[1.0, 2.0]]), None)]).observers
        array([3])
    """
    fixations, observers, durations = [np.zeros((0, 2))], [np.zeros(0, int)], [np.zeros(0)]
    for observer, points, times in viewings:
        fixations.append(np.asarray(points, float).reshape(-1, 2))
        observers.append(np.full(len(points), observer))
        durations.append(np.full(len(points), np.nan) if times is None else np.asarray(times, float))
    return Gaze(np.concatenate(fixations), np.concatenate(observers), np.concatenate(durations))


def gaze_from_points(mask: np.ndarray) -> Gaze:
    """The gaze of a binary map: one fixation of an unknown observer on each pixel that is set."""
    return make_gaze([(-1, np.argwhere(mask), None)])


def read_example(
    image_id: str,
    image: Path,
    gaze: Gaze | None = None,
    *,
    problems: Problems,
    density: Path | None = None,
    frame: tuple[int, int] | None = None,
    labels: tuple[int, ...] = (),
    clutter: int = -1,
    clip_all: bool = False,
) -> Example | None:
    """One record from an image file and its gaze, checked by the rule at the head of this module.

    Args:
        image_id: unique in the data set.
        image: the encoded image.
        gaze: raw fixations in 0-based pixels; None where there are none.
        problems: where clipped and dropped fixations are counted.
        density: the released density map, used where no fixation is left.
        frame: (height, width) that the fixations were recorded for, where the release says so.
        labels: class indices.
        clutter: number of things in the image; -1 unknown.
        clip_all: move fixations from however far outside onto the border, instead of dropping them.

    Returns:
        The record; None, counted as an image without gaze, where neither a fixation nor a map is left.

    Raises:
        ValueError: an image that does not decode, a density map that `read_density` refuses, or `frame` is not the
            size of the image.
    """
    encoded = image.read_bytes()
    size, rotated = stored_size(encoded, name=named(image))
    problems.add("images with an EXIF orientation (read as stored, not rotated)", image_id, rotated)
    if frame is not None and frame != size:
        raise ValueError(
            f"{named(image)}: expected {frame} (height, width), the frame of the gaze of {image_id}, got {size}"
        )
    gaze = clean_gaze(gaze or make_gaze([]), size, image_id, problems, clip_all=clip_all)
    encoded_density = b""
    if len(gaze.fixations) == 0:
        encoded_density = b"" if density is None else _density(density, size, image_id, problems)
        if not encoded_density:
            problems.add("images without gaze (left out)", image_id)
            return None
    return Example(
        image=encoded,
        id=image_id,
        size=size,
        fixations=gaze.fixations.astype(np.float32),
        observers=gaze.observers.astype(np.int32),
        durations=gaze.durations.astype(np.float32),
        density=encoded_density,
        labels=labels,
        clutter=clutter,
        content_box=(0, 0, *size),
    )


def check_pixels(points: Float[np.ndarray, "n 2"], where: str) -> None:
    """Refuses fixations that are fractions of the frame, not pixels: nine tenths of them or more lie in [-1, 1].

    Of ten and more it is enough that those along one axis do.

    Args:
        points: (n, 2) of a whole data set, or of as much of it as has one source.
        where: what the error names.

    Raises:
        ValueError: it says how to convert them.
    """
    points = points[np.isfinite(points).all(axis=1)]
    small = np.abs(points) <= 1
    axes = small.mean(axis=0).max(initial=0.0) if len(points) >= 10 else 0.0
    if len(points) and max(small.all(axis=1).mean(), axes) >= 0.9:
        lowest = 0 if points.min() >= 0 else -1  # from the frame's corner, or from its center
        raise ValueError(
            f"{where}: expected fixations in pixels, got {len(points)} of which nearly all lie in [{lowest}, 1]; are "
            "they fractions of the frame? " + _CONVERTED[lowest]
        )


def _density(path: Path, size: tuple[int, int], image_id: str, problems: Problems) -> bytes:
    """The encoded density map; b"", counted with the file, where it is blank."""
    encoded = path.read_bytes()
    values = read_density(encoded, f"{named(path)}: this density map")
    if not values.any():
        problems.add("density maps that are all zero (not used)", f"{path.parent.name}/{path.name}")
        return b""
    if values.shape != size:
        problems.add("density maps of another size than their image (kept)", image_id)
    return encoded


def clean_gaze(
    gaze: Gaze,
    size: tuple[int, ...],
    image_id: str,
    problems: Problems,
    *,
    clip_all: bool = False,
    words: tuple[str, str, str, str] = ("images", "fixations", "frame", "pixel"),
) -> Gaze:
    """`gaze` without NaNs and inside [0, height - 1] x [0, width - 1]; what it changes is counted.

    Args:
        gaze: raw, in pixels, or samples, along each axis.
        size: the length of each axis.
        image_id: whose gaze it is.
        problems: where what is moved or dropped is counted.
        clip_all: see `read_example`.
        words: what is called what.
    """
    things, what, frame, unit = words
    points, last = gaze.fixations, np.array(size) - 1.0
    finite = np.isfinite(points).all(axis=1)
    outside = finite & ((points < 0) | (points > last)).any(axis=1)
    near = clip_all | ((points >= -1) & (points <= last + 1)).all(axis=1)
    if finite.sum() > 1 and (np.abs(points[finite]) <= 1).all() and max(size) > 2:
        problems.add(f"{things} whose {what} all lie in [-1, 1], as fractions of the {frame} do (kept)", image_id)
    problems.add(f"{what} with a NaN coordinate (dropped)", image_id, int((~finite).sum()))
    problems.add(f"{what} outside the {frame} (moved onto its border)", image_id, int((outside & near).sum()))
    problems.add(f"{what} more than a {unit} outside the {frame} (dropped)", image_id, int((outside & ~near).sum()))
    keep = finite & (~outside | near)
    inside = np.clip(points[keep], 0.0, last)
    durations = gaze.durations[keep]
    impossible = (durations < 0) | (durations > np.finfo(np.float32).max)
    problems.add("durations that are negative or infinite (taken as unknown)", image_id, int(impossible.sum()))
    return Gaze(inside, gaze.observers[keep], np.where(impossible, np.nan, durations))
