"""Scores a tiny data set by a tiny network, in a process of its own.

python score_network.py OUT KILLED_AT PROCESS_INDEX PROCESS_COUNT BATCH_SIZE [COORDINATOR]
"""

import dataclasses
import os
import pathlib
import signal
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from mlfem_jax.parallel.processes import Processes, start  # noqa: E402
from mlfem_jax.scores.config import Config  # noqa: E402
from mlfem_jax.scores.run import score_records  # noqa: E402
from tests.data.gaze_records import encode, make_record  # noqa: E402
from tests.networks import brightness_network  # noqa: E402

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


if __name__ == "__main__":
    out, killed_at, index, count, size = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:6])
    config = dataclasses.replace(CONFIG, out=out, batch_size=size)
    if len(sys.argv) > 6:  # JAX knows which process this is
        start(Processes(coordinator=sys.argv[6], process_index=index, process_count=count, lost_after_s=5))
    else:
        config = dataclasses.replace(config, process_index=index, process_count=count)
    score_records(config, DeadlySource(tiny_source(), killed_at, out), DATASET, brightness_network())
