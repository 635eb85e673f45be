"""Splits by a hash of the image id, so that an image stays where it is when others are added or removed."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Int32

from mlfem_jax.data.example import ExampleFormat, record_id
from mlfem_jax.data.recording import RecordingFormat
from mlfem_jax.gaze import fit, move_fixations


@runtime_checkable
class Source(Protocol):
    """Random access to the records of a prepared data set: a TFDS data source, or a plain list of dicts."""

    def __len__(self) -> int:
        """Number of records."""
        ...

    def __getitem__(self, index: Any, /) -> Any:
        """The record at an index: a dict of the prepared features."""
        ...


@dataclasses.dataclass(frozen=True)
class Index:
    """What the input pipeline has to know about all records before it reads them.

    Attributes:
        ids: of the images, in the order of the source.
        fixation_counts: (records,) number of fixations of each.
        labels: of each, class indices; empty where unknown.
        sizes: (height, width) of each, in pixels; of recordings the lengths of the axes of their events.
        groups: what each is divided by, into folds or other parts: its id, or that of the recording it is a window of,
            so that no recording is in two parts.
    """

    ids: tuple[str, ...]
    fixation_counts: Int[np.ndarray, " records"]
    labels: tuple[tuple[int, ...], ...]
    sizes: Int[np.ndarray, "records axes"]
    groups: tuple[str, ...]

    @property
    def max_fixations(self) -> int:
        """The largest number of fixations on an image; 0 if there are none."""
        return int(self.fixation_counts.max(initial=0))


def scan(source: Source) -> Index:
    """Ids, numbers of fixations, labels and sizes, from one pass over the records that decodes no image.

    Args:
        source: of records.

    Returns:
        The index.

    Example:
        >>> scan([{"id": "a", "fixations": np.zeros((7, 2)), "labels": np.array([3]), "size": np.array([4, 6])}])
        Index(ids=('a',), fixation_counts=array([7]), labels=((3,),), sizes=array([[4, 6]]), groups=('a',))
    """
    ids, counts, labels, sizes, groups = [], [], [], [], []
    for position in range(len(source)):
        record = source[position]
        ids.append(record_id(record))
        groups.append(record_id({"id": record["recording"]}) if "recording" in record else ids[-1])
        counts.append(len(record["fixations"]))
        labels.append(tuple(int(label) for label in record["labels"]))
        sizes.append(tuple(int(side) for side in record["size"]))
    sides = np.array(sizes or np.zeros((0, 2)), int)
    return Index(tuple(ids), np.array(counts, int), tuple(labels), sides, tuple(groups))


def looked_at(index: Index, positions: Int[np.ndarray, " part"]) -> Int[np.ndarray, " looked"]:
    """Those positions whose images have fixations: what can be trained on gaze.

    Args:
        index: of the data set, from `scan`.
        positions: to choose from.

    Returns:
        Positions, in their order.

    Raises:
        ValueError: none has: a data set of density maps alone can be scored, but holds no gaze to train on.

    Example:
        >>> index = Index(("a", "b"), np.array([0, 7]), ((), ()), np.ones((2, 2), int), ("a", "b"))
        >>> looked_at(index, np.array([0, 1]))
        array([1])
    """
    looked = positions[index.fixation_counts[positions] > 0]
    if len(looked) == 0:
        raise ValueError(
            f"fixations: expected some on the {len(positions)} images to train on, got none; density maps alone can be "
            "scored, not trained on"
        )
    return looked


def fixation_totals(source: Source, example_format: ExampleFormat | RecordingFormat) -> Int32[np.ndarray, "*S"]:
    """How many fixations each pixel of the frame has, on all images of a data set together.

    Args:
        source: records of a prepared data set; no image is decoded.
        example_format: the frame.

    Returns:
        (H, W), or the lengths of the axes of events; a fixation belongs to the pixel that it rounds to, as in
        `mlfem_jax.metrics.fixation_counts`, and one outside the frame to none.
    """
    axes = example_format.axes if isinstance(example_format, RecordingFormat) else 2
    totals = np.zeros(example_format.shape[:axes], np.int32)
    for position in range(len(source)):
        pixels = np.floor(_moved(source[position], example_format) + np.float32(0.5))
        inside = ((pixels >= 0) & (pixels < np.array(totals.shape))).all(axis=1)
        np.add.at(totals, tuple(pixels[inside].astype(int).T), 1)
    return totals


def _moved(record: Any, example_format: ExampleFormat | RecordingFormat) -> Float[np.ndarray, "n axes"]:
    """The fixations of a record in the frame of the examples."""
    if isinstance(example_format, RecordingFormat):
        return record["fixations"]
    shape = int(record["size"][0]), int(record["size"][1])
    box = fit(shape, example_format.shape, rule=example_format.rule)
    return np.asarray(move_fixations(record["fixations"], shape, box))


def hash_fraction(image_id: str, *, salt: str = "") -> float:
    """A number in [0, 1) that depends on nothing but the id and the salt; over many ids it is uniform.

    Args:
        image_id: of the image.
        salt: another salt gives another, independent split.

    Returns:
        The first 53 bits of the SHA-256 of salt and id, as a fraction.

    Example:
        >>> round(hash_fraction("1001"), 6)
        0.747683
    """
    digest = hashlib.sha256(f"{salt}\0{image_id}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def split_positions(
    ids: Sequence[str], fractions: Mapping[str, float], *, salt: str = ""
) -> dict[str, Int[np.ndarray, " part"]]:
    """Positions of the images of every part, such as train, validation and test.

    Each part owns an interval of [0, 1), in the order given, and an image belongs to the part that owns its
    hash. The parts' sizes are therefore the fractions only on average.

    Args:
        ids: of the images, in the order of the source; of windows of recordings see `Index.groups`.
        fractions: name of the part to its share; together 1.
        salt: another salt gives another, independent split.

    Returns:
        Name of the part to positions in `ids`, ascending. Every position is in exactly one part.

    Raises:
        ValueError: if a share is negative, or they do not add up to 1.

    Example:
        >>> parts = split_positions(["1001", "1002", "1003"], {"train": 0.5, "test": 0.5})
        >>> {name: positions.tolist() for name, positions in parts.items()}
        {'train': [1, 2], 'test': [0]}
    """
    shares = np.array(list(fractions.values()), float)
    if not (shares >= 0).all() or not np.isclose(shares.sum(), 1):
        raise ValueError(f"fractions: expected shares of 0 or more that add up to 1, got {dict(fractions)}")
    part = np.searchsorted(np.cumsum(shares)[:-1], _hashes(ids, salt), side="right")
    return {name: np.flatnonzero(part == i) for i, name in enumerate(fractions)}


def k_folds(ids: Sequence[str], k: int, *, salt: str = "") -> tuple[Int[np.ndarray, " fold"], ...]:
    """Positions of the images of every fold of a k-fold cross-validation.

    Args:
        ids: of the images, in the order of the source; of windows of recordings see `Index.groups`.
        k: number of folds, at least 2.
        salt: another salt gives another, independent partition.

    Returns:
        k arrays of positions in `ids`, ascending; every position is in exactly one. Equal sizes on average.

    Raises:
        ValueError: if `k` is below 2.

    Example:
        >>> sorted(np.concatenate(k_folds(["a", "b", "c"], 2)).tolist())
        [0, 1, 2]
    """
    if k < 2:
        raise ValueError(f"k: expected at least 2, got {k}")
    fold = np.floor(_hashes(ids, salt) * k).astype(int)
    return tuple(np.flatnonzero(fold == i) for i in range(k))


def fold_positions(ids: Sequence[str], fold: tuple[int, int]) -> Int[np.ndarray, " fold"]:
    """Positions of the images of one fold, as command lines name it.

    Args:
        ids: of the images, in the order of the source; of windows of recordings see `Index.groups`.
        fold: (i, k), fold i of `k_folds`, counted from 0.

    Raises:
        ValueError: there is no such fold.

    Example:
        >>> fold_positions(["1001", "1002", "1003"], (0, 2)).tolist()
        [1, 2]
    """
    number, k = fold
    if not 0 <= number < k:
        raise ValueError(f"fold: expected 0 to {k - 1} of {k}, got {number}")
    return k_folds(ids, k)[number]


def _hashes(ids: Iterable[str], salt: str) -> np.ndarray:
    return np.array([hash_fraction(image_id, salt=salt) for image_id in ids], float)
