"""The input pipeline: prepared records to batches; shuffled, sharded and resumable by Grain.

    source = open_dataset("data/osie")
    format = ExampleFormat((224, 224), max_fixations=scan(source).max_fixations)
    iterator = iter(read_batches(source, format, batch_size=32, seed=0, epochs=10, workers=4))
    batch = next(iterator)

`iterator.get_state()` is the position, which `json` can write; `set_state` of an iterator over a dataset made
with the same arguments goes on from there, with exactly the batches that were left, whatever the number of workers.
`iterator.close()` ends the workers. They are spawned, so a script that uses them needs the `if __name__ == "__main__":`
guard.
"""

import contextlib
import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import grain
import jax
import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Num, Shaped

from mlfem_jax.data.example import ExampleFormat, blank_example, make_example
from mlfem_jax.data.recording import RecordingFormat
from mlfem_jax.data.split import Source
from mlfem_jax.data.workers import Reading, Workers, worker_count
from mlfem_jax.files import UNREADABLE, printable, walk

_PADDING = -1


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images and their gaze, all in the frame that the photographs were resized into; NumPy arrays.

    What is said of images holds for recordings (N, *S, C), which are not resized: their fixations are events, (N, n,
    axes), with coordinates along the first of their axes, and boxes go from corner to corner.

    Attributes:
        images: photographs, RGB, 0 to 255; black where a letterbox or the batch is padded.
        mask: False for the examples that only fill up the last batch.
        ids: of the images; "" where the batch is padded.
        fixations: (y, x) in pixels; zeros where padded.
        fixation_mask: False where the list of fixations is padded.
        observers: who made each fixation; -1 unknown or padded.
        durations: of each fixation, in ms; NaN unknown or padded.
        labels: multi-hot.
        clutter: number of things in the photograph; -1 unknown.
        content_box: (y0, x0, y1, x1) half open: what is neither letterbox nor a bar of the photograph's own.
        photo_box: the same in pixels of the photograph: what is no bar of its own.
        size: (height, width) of the photograph before it was resized, in pixels.
        scale: pixels of the frame to a pixel of the photograph, along (y, x); 1 where the batch is padded.
            `sigma_px * scale` is the sigma that `gaze_densities` takes for the fixations here.
        density: the released density map, summing to 1, all zeros where there is none; None if not asked for.
    """

    images: Num[np.ndarray, "N ..."]
    mask: Bool[np.ndarray, " N"]
    ids: Shaped[np.ndarray, " N"]
    fixations: Float32[np.ndarray, "N n axes"]
    fixation_mask: Bool[np.ndarray, "N n"]
    observers: Int32[np.ndarray, "N n"]
    durations: Float32[np.ndarray, "N n"]
    labels: Bool[np.ndarray, "N classes"]
    clutter: Int32[np.ndarray, " N"]
    content_box: Int32[np.ndarray, "N sides"]
    photo_box: Int32[np.ndarray, "N sides"]
    size: Int32[np.ndarray, "N axes"]
    scale: Float32[np.ndarray, "N axes"]
    density: Float32[np.ndarray, "N H W"] | None = None


def read_batches(
    source: Source,
    example_format: ExampleFormat | RecordingFormat,
    *,
    batch_size: int,
    positions: Int[np.ndarray, " part"] | None = None,
    seed: int | None = None,
    epochs: int | None = 1,
    workers: Workers = 0,
    remainder: Literal["fill", "drop"] = "fill",
    in_memory: bool = False,
    process_index: int | None = None,
    process_count: int | None = None,
) -> grain.IterDataset[Batch]:
    """Batches in which every example appears exactly once in an epoch.

    All processes get the same number of batches, all of the same shapes: the last one is filled up with blank
    examples, whose mask is False. The order depends on the seed and the epoch alone, not on the workers. The batches
    of several processes, taken together, hold the examples that the batch of one process would.

    Args:
        source: records of a prepared data set, from `open_dataset`, or a list of dicts.
        example_format: shapes, and how to resize.
        batch_size: examples in a batch of one process, blank ones included.
        positions: the records to read, from `split_positions` or `k_folds`. Default: all.
        seed: of the shuffling, which differs in every epoch. Default: no shuffling.
        epochs: how often to read everything; None is for ever.
        workers: processes that read, decode and resize. 0: threads of this process do. "auto": processes where the
            devices are no CPU and there is enough to read, see `worker_count`.
        remainder: what becomes of the examples that do not fill the last batch: "fill" it with blank ones; or "drop"
            them, which with a seed are others in every epoch, because batch norm would see the blank ones.
        in_memory: keep each example, resized, from the first epoch on; for small data sets, without workers.
        process_index: which share to read, of `process_count`. Default: `jax.process_index()`.
        process_count: number of shares. Default: `jax.process_count()`.

    Returns:
        An iterable of `Batch` whose iterators have `get_state` and `set_state`.

    Raises:
        ValueError: if there is nothing to read or an argument is out of range; while reading, as
            `make_example`, naming the record.
    """
    positions = np.arange(len(source)) if positions is None else positions
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    _check(len(source), positions, batch_size, workers, index, count)
    if in_memory and workers not in (0, "auto"):
        raise ValueError(f"in_memory: expected no workers, which would each keep their own, got {workers}")
    if remainder == "drop" and len(positions) < batch_size * count:
        raise ValueError(f"batch_size: expected at most the {len(positions)} examples, got {batch_size * count}")
    order = grain.MapDataset.source(positions.tolist())
    if seed is not None:
        order = order.shuffle(seed)
    padding = batches_per_epoch(len(positions), batch_size, count) * batch_size * count - len(positions)
    if remainder == "drop":
        order = order.slice(slice(0, len(positions) // (batch_size * count) * batch_size * count))
    elif padding:
        order = grain.MapDataset.concatenate([order, grain.MapDataset.source([_PADDING] * padding)])
    read = _Reader(source, example_format)
    examples = order.slice(slice(index, None, count)).map(functools.cache(read) if in_memory else read)
    batches = examples.batch(batch_size).repeat(epochs)
    read_in_all = sys.maxsize if epochs is None else len(positions) // count * epochs
    batch_bytes = batch_size * sum(field.nbytes for field in blank_example(example_format).values())
    processes = 0 if in_memory else worker_count(workers, examples=read_in_all, batch_bytes=batch_bytes)
    return Reading(batches, processes).map(_batch)


def batches_per_epoch(examples: int, batch_size: int, process_count: int = 1) -> int:
    """Number of batches that each process reads in an epoch.

    Args:
        examples: number of records, of all processes together.
        batch_size: examples in a batch of one process.
        process_count: number of processes.

    Returns:
        The number, the padded last batch included.

    Example:
        >>> batches_per_epoch(600, 64)
        10
    """
    return math.ceil(examples / (batch_size * process_count))


def open_dataset(directory: str | Path, split: str | None = None) -> Any:
    """The records of a prepared data set.

    Args:
        directory: the folder that `mlfem prepare` wrote, or one above it that holds no other data set.
        split: name of a split, or a slice of one, as TFDS writes it ("train[:10]"). Default: the only one.

    Returns:
        The records by position; its `dataset_info.metadata` holds the data set's `sigma_px`.

    Raises:
        FileNotFoundError: if there is no prepared data set in the folder.
        ValueError: if there are several, or it is damaged; or no such split, or several and none was named.
    """
    walked = walk(directory)  # a build that is not finished lies in a hidden folder
    found = [path.parent for path in walked.files if path.name == "dataset_info.json"]
    if not found:
        closed = ", ".join(map(str, walked.left_out.get(UNREADABLE, ())))
        unread = f"; it cannot be read: {closed}" if closed and Path(directory).exists() else ""
        raise FileNotFoundError(
            f"{directory}: expected a prepared data set, with a dataset_info.json, in or below it, got none{unread}"
        )
    if len(found) > 1:
        raise ValueError(f"{directory}: expected one data set, got several; name one: {', '.join(map(str, found))}")
    builder = open_builder(found[0])
    splits = list(builder.info.splits)
    if split is None and len(splits) == 1:
        split = splits[0]
    if split is None or split.split("[")[0] not in splits:
        raise ValueError(f"{found[0]}: expected one of the splits {', '.join(splits)}, got {split}")
    try:
        source = builder.as_data_source(split=split)
    except (ValueError, AssertionError) as error:  # of TFDS, which does not say whose
        raise ValueError(f"split: expected a slice of {', '.join(splits)}, got {split!r} ({error})") from error
    return Records(found[0], source)


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of a prepared data set; what goes wrong in reading one is a ValueError that names the folder.

    Attributes:
        folder: of the data set.
        source: of TFDS.
    """

    folder: Path
    source: Any

    def __len__(self) -> int:
        """Number of records."""
        with naming_damage(self.folder):
            return len(self.source)

    def __getitem__(self, position: Any) -> Any:
        """The record at a position."""
        with naming_damage(self.folder):
            return self.source[position]

    @property
    def dataset_info(self) -> Any:
        """TFDS's description of the data set, with our metadata."""
        return self.source.dataset_info


def open_builder(folder: Path) -> Any:
    """TFDS's builder of a prepared data set; ValueError naming the folder where that is damaged."""
    import tensorflow_datasets as tfds

    with naming_damage(folder):
        builder = tfds.builder_from_directory(folder)
        builder.info.metadata["sigma_px"]  # reads all that there is
    return builder


@contextlib.contextmanager
def naming_damage(folder: Path) -> Iterator[None]:
    """Within the block, an error of whatever library becomes a ValueError that names a prepared data set."""
    try:
        yield
    except IndexError:  # ends a loop over the records
        raise
    except Exception as error:
        reason = printable(f"{type(error).__name__}: {' '.join(str(error).split())}", 200)
        raise ValueError(f"{folder}: expected a prepared data set, got a damaged one ({reason})") from error


@dataclasses.dataclass(frozen=True, eq=False)
class _Reader:
    """From a position to an example. Grain prints what it maps by: of a partial that would be all records."""

    source: Source = dataclasses.field(repr=False)
    example_format: ExampleFormat | RecordingFormat

    def __call__(self, position: int) -> dict[str, np.ndarray]:
        if position == _PADDING:
            return blank_example(self.example_format)
        return make_example(self.source[position], self.example_format)


def _batch(fields: dict[str, np.ndarray]) -> Batch:
    # Copied out of the workers' shared memory, which is then free for the next batch.
    return Batch(**{name: np.array(values) for name, values in fields.items()})


def _check(records, positions, batch_size, workers, process_index, process_count):
    if len(positions) == 0:
        raise ValueError(f"positions: expected some of {records} records, got none; there is nothing to read")
    if positions.min() < 0 or positions.max() >= records:
        raise ValueError(f"positions: expected 0 to {records - 1}, got {positions.min()} to {positions.max()}")
    if batch_size % 1 or batch_size < 1:
        raise ValueError(f"batch_size: expected a whole number above 0, got {batch_size}")
    if workers != "auto" and workers < 0:
        raise ValueError(f"workers: expected 0 or more, got {workers}")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index: expected 0 to {process_count - 1}, got {process_index}")


def read_examples(
    example: Callable[[int], dict[str, np.ndarray]],
    positions: Int[np.ndarray, " part"],
    *,
    batch_size: int,
    seed: int | None = None,
    epochs: int | None = 1,
    process_index: int = 0,
    process_count: int = 1,
    kinds: Sequence[Hashable] | None = None,
) -> grain.IterDataset[dict[str, np.ndarray]]:
    """Batches of examples, each exactly once in an epoch; the last batch is filled up, with `mask` False there.

    Args:
        example: from a position to a dict of arrays.
        positions: to read.
        batch_size: examples in a batch of one process.
        seed: of the shuffling, which differs in every epoch. Default: no shuffling.
        epochs: how often to read everything; None is for ever.
        process_index: which share of every batch to read, of `process_count`. Default: all of it.
        process_count: number of shares, `batch_size` examples each.
        kinds: of each of `positions`: examples of one kind have arrays of one shape, and a batch is of one kind.
            Default: all are.

    Returns:
        An iterable of dicts of arrays whose iterators have `get_state` and `set_state`.

    Raises:
        ValueError: no positions.

    Example:
        >>> reading = read_examples(lambda i: {"x": np.float32(i)}, np.arange(3), batch_size=2)
        >>> [(batch["x"].tolist(), batch["mask"].tolist()) for batch in reading]
        [([0.0, 1.0], [True, True]), ([2.0, 0.0], [True, False])]
    """
    if len(positions) == 0:
        raise ValueError("positions: expected at least one, got none: nothing to read")
    groups: dict[Hashable, list[int]] = {}
    for position, kind in zip(positions.tolist(), kinds or [None] * len(positions), strict=True):
        groups.setdefault(kind, []).append(position)

    def batches_of(group: list[int]) -> grain.MapDataset[dict[str, np.ndarray]]:
        order = grain.MapDataset.source([(position, True) for position in group])
        if seed is not None:
            order = order.shuffle(seed)
        together = batch_size * process_count
        padding = batches_per_epoch(len(group), batch_size, process_count) * together - len(group)
        if padding:
            order = grain.MapDataset.concatenate([order, grain.MapDataset.source([(group[0], False)] * padding)])
        examples = order.map(lambda item: example(item[0]) | {"mask": np.array(item[1])})
        return examples.batch(batch_size).slice(slice(process_index, None, process_count))

    batches = [batches_of(group) for group in groups.values()]
    whole = batches[0] if len(batches) == 1 else grain.MapDataset.concatenate(batches)
    if seed is not None and len(batches) > 1:
        whole = whole.shuffle(seed)
    return whole.repeat(epochs).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
