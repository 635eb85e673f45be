"""SIGKILL at any moment: no row lost, nothing twice, nothing half written, nothing left behind.

    python -m tests.campaigns.kill [--kills 320] [--jobs score fusion classifier prepare explain]

Each folder is killed up to four times at random moments of a run; then the same command ends it, and the result is that
of a run that nothing disturbed.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.campaigns.jobs import JOBS, apart, clear, new_folder, reported, start, undisturbed, wait

KILLS_OF_A_FOLDER = 4


def campaign(name: str, kills: int, seed: int, root: Path) -> int:
    """The number of failures."""
    job, rng = JOBS[name], np.random.default_rng(seed)
    expected, seconds = undisturbed(job, root)
    tried, failures, round_number = 0, [], 0
    while tried < kills:
        round_number += 1
        folder = new_folder(job, root, f"round{round_number}")
        try:
            for _ in range(min(KILLS_OF_A_FOLDER, kills - tried)):
                child = start(job.run, folder, root / "errors")
                time.sleep(rng.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
                tried += wait(child) == -signal.SIGKILL
                if folder.exists():
                    apart(job.whole, folder)
            status = wait(start(job.run, folder, root / "errors"))
            assert status == 0, f"status {status}: {(root / 'errors').read_text()[-500:]}"
            (folder / "was.there").unlink(missing_ok=True)
            assert apart(job.read, folder) == expected, "the result is another one"
            left = [str(path) for path in folder.rglob("*") if path.name.endswith((".part", ".lock"))]
            assert not left, f"left behind: {left}"
        except Exception as error:
            failures.append(f"round {round_number}: {type(error).__name__}: {error}"[:600])
        clear(folder.parent)
    return reported(f"kill {name}", tried, failures)


def main() -> int:
    """Every job's campaign."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=320, help="of all jobs together")
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=JOBS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        shares = [-(-asked.kills // len(asked.jobs))] * len(asked.jobs)
        failed = [campaign(name, kills, asked.seed, Path(root) / name)
                  for name, kills in zip(asked.jobs, shares, strict=True)]  # fmt: skip
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
