"""Runs a trial on mutants, each made of its seed, in a process of its own under limits of time and memory."""

import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

LIMIT_S = 10.0
LIMIT_BYTES = 2 * 1024**3
EXTREMES = [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x01\x00\x00", b"\x80\x00\x00\x00"]


def campaign(name: str, trial: Callable[[int, Path], str], seeds: Iterable[int]) -> list[str]:
    """Tries every seed; prints tried / failed, and each failure on a line, which it returns.

    Args:
        name: of the campaign.
        trial: makes the mutant of a seed in an empty folder and reads it; says what came of it, and raises where that
            is wrong, or one reading took longer than `LIMIT_S`.
        seeds: of the mutants.
    """
    results: Counter[str] = Counter()
    failures, worker, slowest = [], None, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            worker = worker or _start(trial, folder)
            process, connection = worker
            started = time.perf_counter()
            try:
                connection.send(seed)
                kind, text = connection.recv() if connection.poll(6 * LIMIT_S) else ("failed", "hangs")
            except (EOFError, OSError):
                kind, text = "failed", "the interpreter crashed"
            seconds = time.perf_counter() - started
            slowest = max(slowest, seconds)
            results[text if kind == "passed" else "failed"] += 1
            if kind == "failed":
                failures.append(f"{name} {seed}: {text}")
                process.kill()
                process.join()
                worker = None
    if worker:
        worker[1].close()
        worker[0].join()
    counts = ", ".join(f"{count} {text}" for text, count in sorted(results.items()))
    print(f"{name}: tried {results.total()}, failed {len(failures)} ({counts}; slowest {slowest:.1f} s)")
    for failure in failures:
        print(failure)
    return failures


def main(name: str, trial: Callable[[int, Path], str], count: int) -> None:
    """Runs a whole campaign from the command line: `python -m tests.campaigns.NAME [COUNT]`."""
    sys.exit(bool(campaign(name, trial, range(int(sys.argv[1]) if len(sys.argv) > 1 else count))))


def judged(read: Callable[[], object], *names: str) -> str:
    """What came of it: read, or refused by one clear line that names one of the files; anything else raises."""
    started, result = time.process_time(), "read"  # of this process: other work on the machine is not its fault
    try:
        read()
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        if "\n" in text or len(text) > 1000 or not any(name in text for name in names) or "MemoryError" in text:
            raise AssertionError(f"not one clear line that names the file: {text[:300]!r}") from error
        result = "refused"
    seconds = time.process_time() - started
    if seconds > LIMIT_S:
        raise AssertionError(f"{result} after {seconds:.1f} s")
    return result


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes with one to three kinds of damage."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(7)
        length = rng.choice((1, 2, 4, 8, 40))
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + rng.randbytes(length) + data[at + length :]
        elif kind == 2:
            data = data[:at] + rng.choice(EXTREMES) + data[at + 4 :]
        elif kind == 3:
            data = data[:at] + data[at + length :]
        elif kind == 4:
            data = data[:at] + rng.randbytes(length) + data[at:]
        elif kind == 5:
            data = data[:at] + data[max(0, at - 64) :]
        elif data:
            flipped = bytearray(data)
            flipped[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            data = bytes(flipped)
    return data


def _start(trial: Callable[[int, Path], str], folder: str):
    context = multiprocessing.get_context("spawn")
    connection, its_end = context.Pipe()
    process = context.Process(target=_serve, args=(its_end, trial, folder), daemon=False)
    process.start()
    its_end.close()
    connection.recv()  # started: not a part of the first mutant's time
    return process, connection


def _serve(connection, trial: Callable[[int, Path], str], folder: str) -> None:
    import warnings

    warnings.simplefilter("ignore")  # what Pillow and libtiff say beside an error is not an error
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, used + LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send("started")
    while True:
        try:
            seed = connection.recv()
        except EOFError:
            return
        with tempfile.TemporaryDirectory(dir=folder) as place:
            try:
                connection.send(("passed", trial(seed, Path(place))))
            except Exception as error:
                connection.send(("failed", f"{type(error).__name__}: {str(error)[:400]}"))
