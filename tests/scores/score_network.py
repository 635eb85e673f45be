"""Scores a tiny data set by a tiny network, for a process of its own (tests/forked.py)."""

import dataclasses
import os
import pathlib
import signal
import time

import jax
import numpy as np

from mlfem_jax.parallel.processes import Processes, start
from mlfem_jax.scores.config import Config
from mlfem_jax.scores.run import score_records
from tests.data.gaze_records import encode, make_record
from tests.networks import brightness_network

DATASET = {"name": "tiny", "sigma_px": 2.0, "class_names": ["red", "green", "blue"]}
CONFIG = Config(
    pathlib.Path(),
    pathlib.Path(),
    methods=("add:alpha=0.25", "center", "uniform"),
    metrics=("pcc", "nss"),
    batch_size=3,
    part_size=2,
    map_size=4,
)


def tiny_source(count=12):
    """Photographs of noise, 12 x 16, the i-th with i % 5 fixations."""
    photos = np.random.default_rng(0).integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
    return [make_record(i, fixations=i % 5, image=encode(photos[i])) for i in range(count)]


class DeadlySource(list):
    """A source that kills the process when a record is read as an example, after the two passes that only count.

    It waits until a part is there, of this process or of another.
    """

    def __init__(self, records, killed_at, out):
        super().__init__(records)
        self.killed_at, self.out, self.reads = killed_at, out, 0

    def __getitem__(self, position):
        self.reads += 1
        if self.reads > 2 * len(self) and position == self.killed_at:
            for _ in range(600):
                if any(self.out.glob("scores-*.parquet")):
                    break
                time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(position)


def main(out, killed_at, index, count, size, coordinator=None, devices=1):
    """Scores as one of several processes, which JAX joins where a coordinator is given; dies at a record, if at all."""
    jax.config.update("jax_num_cpu_devices", devices)
    config = dataclasses.replace(CONFIG, out=out, batch_size=size)
    if coordinator is None:
        config = dataclasses.replace(config, process_index=index, process_count=count)
    else:
        start(Processes(coordinator=coordinator, process_index=index, process_count=count, lost_after_s=5))
    score_records(config, DeadlySource(tiny_source(), killed_at, out), DATASET, brightness_network())
