"""Who reads batches, threads or processes, and how far they are: a number, whoever reads."""

import os
import shutil
from pathlib import Path
from typing import Any, Literal, TypeAlias

import grain
import jax
from absl import flags

Workers: TypeAlias = int | Literal["auto"]
"""Processes that read. 0: threads of this process. "auto": see `worker_count`."""

_THREADS = 4  # of reading a photograph two fifths hold Python's lock: more threads than this would wait for it
_MOST = 16
_EXAMPLES = 1000  # that pay for a worker, which takes as long to start as a core to read some 400 photographs
_HELD = 3  # batches of a worker: one is made, one waits, one is copied
_SHARED = Path("/dev/shm")


def worker_count(workers: Workers, *, examples: int, batch_bytes: int) -> int:
    """The number of processes that read.

    Where "auto" is asked for, none if the devices are the CPU's cores, which a network keeps busy, so that workers add
    the cost of their start and no more. Else one for each thousand examples, at most 16 and one fewer than the cores,
    and no more than there is shared memory for.

    Args:
        workers: what was asked for.
        examples: that are read, of all epochs.
        batch_bytes: size of a batch.

    Example:
        >>> worker_count(3, examples=10, batch_bytes=100)
        3
    """
    if workers != "auto":
        return workers
    if jax.local_devices()[0].platform == "cpu":
        return 0
    shared = shutil.disk_usage(_SHARED).free if _SHARED.exists() else 2**30  # a container has 64 MiB if not told else
    return max(0, min(_MOST, _cores() - 1, examples // _EXAMPLES, shared // (_HELD * batch_bytes)))


def _cores() -> int:
    """Of this process: a cluster gives it a share of the host's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Reading(grain.IterDataset[Any]):
    """Batches in order, read ahead. The state of an iterator is the number of batches read, whoever read them.

    Grain's own holds a place for each worker, and fits no other number of them: a run could not go on elsewhere.
    """

    def __init__(self, batches: grain.MapDataset[Any], workers: int) -> None:
        """Batches by number, and how many processes read them."""
        super().__init__(batches)
        self._batches, self._workers = batches, workers

    def __iter__(self) -> grain.DatasetIterator[Any]:
        """An iterator from the first batch on."""
        return _Place(self._batches, self._workers)


class _Place(grain.DatasetIterator[Any]):
    def __init__(self, batches: grain.MapDataset[Any], workers: int) -> None:
        super().__init__()
        self._batches, self._workers, self._read = batches, workers, 0
        self._running: grain.DatasetIterator[Any] | None = None

    def __next__(self) -> Any:
        self._assert_not_closed()
        if self._running is None:
            self._running = iter(_read_ahead(self._batches.slice(slice(self._read, None)), self._workers))
        batch = next(self._running)
        self._read += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        return {"next_index": self._read}

    def set_state(self, state: dict[str, Any]) -> None:
        self._stop()
        self._read = state["next_index"]

    def close(self) -> None:
        self._stop()
        super().close()

    def _stop(self) -> None:
        if self._running is not None:
            self._running.close()
        self._running = None


def _read_ahead(batches: grain.MapDataset[Any], workers: int) -> grain.IterDataset[Any]:
    # Grain's default buffer of 500 elements is meant for small ones; here each is a whole batch.
    threads = 1 if workers else min(_THREADS, _cores())
    reading = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    if not workers:
        return reading
    if not flags.FLAGS.is_parsed():  # Grain's workers read absl flags, which only absl's own main parses
        flags.FLAGS.mark_as_parsed()
    return reading.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1))
