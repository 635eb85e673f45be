"""A disk that is full at any moment: one line that names a file or the folder, status 2, and the run goes on later.

    python -m tests.campaigns.disk_full [--tries 100] [--jobs ...] [--limit]

On a small disk in memory where one may be mounted (root on Linux); elsewhere, and with --limit, by a limit on the size
of files, which the system reports likewise.
"""

import argparse
import contextlib
import functools
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.campaigns.jobs import JOBS, apart, clear, new_folder, reported, start, undisturbed, wait

REASONS = ("No space left on device", "File too large")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Whether a disk could be mounted at a folder; its size is set by `resize`."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, size: int) -> None:
    """Another size, in bytes, of the disk at a folder."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True, capture_output=True)


def campaign(name: str, tries: int, seed: int, root: Path, *, limit: bool) -> int:
    """The number of failures."""
    job, rng = JOBS[name], np.random.default_rng(seed)
    expected, _ = undisturbed(job, root)
    sizes = [path.stat().st_size for path in (root / "warm" / "out").rglob("*") if path.is_file()]
    failures, hit = [], 0
    for number in range(tries):
        errors = root / "errors"
        place = root / f"try{number}"
        with small_disk(place) if not limit else contextlib.nullcontext(False) as mounted:
            folder = new_folder(job, root / ("" if not mounted else f"try{number}"), f"try{number}")
            if mounted:
                before = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
                resize(place, 65536 + before + int(rng.uniform(0, 1) * sum(sizes)) // 4096 * 4096)
            size = int(rng.uniform(0, max(sizes)))
            bound = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, -1)) if not mounted else int
            try:
                status = wait(start(job.run, folder, errors, prepared=bound))
                text = errors.read_text()
                if status:
                    hit += 1
                    lines = text.splitlines()
                    assert status == 2, f"status {status}: {text[-400:]}"
                    told = [line for line in lines if line.startswith("campaign: ")]
                    assert len(told) == 1 and lines[-1] == told[0], f"not one line: {text[-400:]}"
                    assert any(reason in told[0] for reason in REASONS) and str(folder) in told[0], told[0]
                if folder.exists():
                    apart(job.whole, folder)
                if mounted:
                    resize(place, 64 << 20)
                status = wait(start(job.run, folder, errors))
                assert status == 0, f"it does not go on, status {status}: {errors.read_text()[-400:]}"
                (folder / "was.there").unlink(missing_ok=True)
                assert apart(job.read, folder) == expected, "the result is another one"
            except Exception as error:
                failures.append(f"try {number}: {type(error).__name__}: {error}"[:600])
            clear(folder.parent)
    return reported(f"disk full ({'limit' if not mounted else 'tmpfs'}), {name}, {hit} were full", tries, failures)


def main() -> int:
    """Every job's campaign."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=100, help="of all jobs together")
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=JOBS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", action="store_true")
    asked = parser.parse_args()
    tries = -(-asked.tries // len(asked.jobs))
    with tempfile.TemporaryDirectory() as root:
        failed = [campaign(name, tries, asked.seed, Path(root) / name, limit=asked.limit) for name in asked.jobs]
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
