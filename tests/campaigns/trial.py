"""Runs a trial on mutants, each made of its seed, in a process of its own under limits of time and memory."""

import contextlib
import multiprocessing
import os
import random
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

LIMIT_S = 10.0
LIMIT_BYTES = 2 * 1024**3
BLOCKED_S = 600.0  # of the clock: a process that waits for ever uses no processor, and a busy machine is slow
EXTREMES = [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x01\x00\x00", b"\x80\x00\x00\x00"]


def campaign(name: str, trial: Callable[[int, Path], str], seeds: Iterable[int]) -> list[str]:
    """Tries every seed; prints tried / failed, longest time, most memory, and each failure on a line, which it returns.

    Args:
        name: of the campaign.
        trial: makes the mutant of a seed in an empty folder and reads it; says what came of it, and raises where that
            is wrong, or one reading took longer than `LIMIT_S`.
        seeds: of the mutants.
    """
    results: Counter[str] = Counter()
    failures, worker, longest_s, most_bytes = [], None, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            worker = worker or _start(trial, folder)
            process, connection = worker
            try:
                connection.send(seed)
                alive = connection.poll(BLOCKED_S)
                kind, text, seconds, held = connection.recv() if alive else ("failed", "hangs", BLOCKED_S, 0)
            except (EOFError, OSError):
                kind, text, seconds, held = "failed", "the interpreter crashed", 0.0, 0
            longest_s, most_bytes = max(longest_s, seconds), max(most_bytes, held)
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
    print(f"{name}: tried {results.total()}, failed {len(failures)} ({counts}), {cost(longest_s, most_bytes)}")
    for failure in failures:
        print(failure)
    return failures


def main(name: str, trial: Callable[[int, Path], str], count: int) -> None:
    """Runs a whole campaign from the command line: `python -m tests.campaigns.NAME [COUNT]`."""
    sys.exit(bool(campaign(name, trial, range(int(sys.argv[1]) if len(sys.argv) > 1 else count))))


def cost(longest_s: float, most_bytes: int) -> str:
    """The longest time of one try, of the processor, and the most memory of a process: for the table."""
    return f"longest {longest_s:.1f} s, most {most_bytes / 2**20:.0f} MiB"


def used() -> tuple[float, int]:
    """The processor's seconds so far of this process and its children, and the most bytes that one of them held."""
    seconds = sum(os.times()[:4])
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    for child in " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split():
        with contextlib.suppress(OSError, ValueError):  # ended since
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            seconds += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
            status = Path(f"/proc/{child}/status").read_text()
            most = max(most, int(status.partition("VmHWM:")[2].split()[0]))
    return seconds, most * 1024


def judged(read: Callable[[], object], *names: str) -> str:
    """What came of it: read, or refused by one clear line that names one of the files; anything else raises."""
    (started, _), result = used(), "read"  # of the processor: other work on the machine is not its fault
    try:
        read()
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        if "\n" in text or len(text) > 1000 or not any(name in text for name in names) or "MemoryError" in text:
            raise AssertionError(f"not one clear line that names the file: {text[:300]!r}") from error
        result = "refused"
    seconds = used()[0] - started
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
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + LIMIT_BYTES, taken + LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send("started")
    while True:
        try:
            seed = connection.recv()
        except EOFError:
            return
        before, _ = used()
        with tempfile.TemporaryDirectory(dir=folder) as place:
            try:
                said = "passed", trial(seed, Path(place))
            except Exception as error:
                said = "failed", f"{type(error).__name__}: {str(error)[:400]}"
        after, held = used()
        connection.send((*said, after - before, held))
