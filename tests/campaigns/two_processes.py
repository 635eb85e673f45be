"""Two processes in one folder: one of them writes, the other names it in one line; parts of one run share the folder.

python -m tests.campaigns.two_processes [--pairs 60] [--jobs ...]
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.campaigns.jobs import JOBS, apart, clear, new_folder, reported, score_as, start, undisturbed, wait


def campaign(name: str, pairs: int, seed: int, root: Path) -> int:
    """The number of failures of pairs that must not share."""
    job, rng = JOBS[name], np.random.default_rng(seed)
    expected, seconds = undisturbed(job, root)
    failures, refused = [], 0
    for number in range(pairs):
        folder = new_folder(job, root, f"pair{number}")
        first = start(job.run, folder, root / "first")
        time.sleep(rng.uniform(0, seconds))
        second = start(job.run, folder, root / "second")
        ended = {"first": wait(first), "second": wait(second)}
        try:
            for which, status in ended.items():
                text = (root / which).read_text()
                assert status in (0, 2), f"status {status}: {text[-400:]}"
                if status == 2:
                    refused += 1
                    other = second if which == "first" else first
                    got = rf"process {other} on \S+, which is writing here; wait for it to end"
                    line = rf"campaign: .*: expected no other process, got {got}.*\n"
                    assert re.fullmatch(line, text), text[-400:]
            assert 0 in ended.values(), "both were refused"
            assert apart(job.read, folder) == expected, "the result is another one"
        except Exception as error:
            failures.append(f"pair {number}: {type(error).__name__}: {error}"[:600])
        clear(folder.parent)
    return reported(f"two processes, {name}, {refused} were refused", pairs, failures)


def sharing(pairs: int, seed: int, root: Path) -> int:
    """The number of failures of pairs that share a run."""
    job, rng = JOBS["score"], np.random.default_rng(seed)
    expected, seconds = undisturbed(job, root)
    failures = []
    for number in range(pairs):
        folder = new_folder(job, root, f"pair{number}")
        first = start(score_as(0, 2), folder, root / "first")
        time.sleep(rng.uniform(0, seconds))
        second = start(score_as(1, 2), folder, root / "second")
        try:
            ended = wait(first), wait(second)
            assert ended == (0, 0), (ended, (root / "first").read_text()[-300:], (root / "second").read_text()[-300:])
            assert apart(job.read, folder) == expected, "the result is another one"
        except Exception as error:
            failures.append(f"pair {number}: {type(error).__name__}: {error}"[:600])
        clear(folder.parent)
    return reported("two processes of one run, score", pairs, failures)


def main() -> int:
    """Every job's campaign."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=60, help="of all jobs together")
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=JOBS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    pairs = -(-asked.pairs // (len(asked.jobs) + ("score" in asked.jobs)))
    with tempfile.TemporaryDirectory() as root:
        failed = [campaign(name, pairs, asked.seed, Path(root) / name) for name in asked.jobs]
        if "score" in asked.jobs:
            failed.append(sharing(pairs, asked.seed, Path(root) / "shared"))
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
