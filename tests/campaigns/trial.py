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

LIMIT_S = 10.0  # of the processor, by a process and those that it starts: other work on the machine does not count
LIMIT_BYTES = 2 * 1024**3
ENDLESS_S = 60.0  # of the processor: what has not ended by then is killed
STILL_S = 60.0  # of the clock, in which no thread runs or wants to: it waits for what does not come
SLOW, ENDLESS, HANGS, CRASHED, LARGE = (
    f"took over {LIMIT_S:.0f} s",
    f"was not done after {ENDLESS_S:.0f} s",
    "hangs",
    "the interpreter crashed",
    f"took over {LIMIT_BYTES // 2**30} GiB",
)
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
                lost = awaited(process.pid, connection.poll)
                kind, text, seconds, held = ("failed", lost, 0.0, 0) if lost else connection.recv()
            except (EOFError, OSError):
                kind, text, seconds, held = "failed", CRASHED, 0.0, 0
            if held > LIMIT_BYTES:
                kind, text = "failed", LARGE
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
    print(*[f"  {kinds(failures)}"] * bool(failures), *failures, sep="\n", end="\n" if failures else "", flush=True)
    return failures


def awaited(process: int, answered: Callable[[float], bool]) -> str | None:
    """Waits for a process to answer; why there will be no answer, else None.

    How long it takes is told by the processor's time that it and its children have used, and that it waits for ever by
    the state of its threads: a busy machine, on which it does not get its turn, changes neither.

    Args:
        process: its number.
        answered: waits for so many seconds, and says whether there is an answer, or the process has ended.
    """
    (begun, _, _), still_s, before = spent(process), 0.0, 0.0
    while not answered(0.5):
        seconds, busy, _ = spent(process)
        if seconds - begun > ENDLESS_S:
            return ENDLESS
        still_s = 0.0 if busy or seconds > before else still_s + 0.5
        before = seconds
        if still_s >= STILL_S:
            return HANGS
    return None


def kinds(failures: Iterable[str]) -> str:
    """How many of the failures are of each kind: over the time, over the memory, hanging, crashed, and all others."""
    known = (SLOW, ENDLESS, HANGS, CRASHED, LARGE)
    counts = Counter(next((kind for kind in known if kind in failure), "answered wrongly") for failure in failures)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def main(name: str, trial: Callable[[int, Path], str], count: int) -> None:
    """Runs a campaign from the command line: `python -m tests.campaigns.NAME [COUNT [FIRST]]`, the whole by default."""
    count, first = (int(number) for number in [*sys.argv[1:], *[str(count), "0"][len(sys.argv) - 1 :]])
    sys.exit(bool(campaign(name, trial, range(first, first + count))))


def cost(longest_s: float, most_bytes: int) -> str:
    """The longest time of one try, of the processor, and the most memory of a process: for the table."""
    return f"longest {longest_s:.1f} s, most {most_bytes / 2**20:.0f} MiB"


def used() -> tuple[float, int]:
    """The processor's seconds so far of this process and its children, and the most bytes that one of them held."""
    seconds, _, held = spent(os.getpid())
    # Of the process itself this would be no less than what the one that started it held.
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return seconds, max(held, ended * 1024)


def spent(process: int) -> tuple[float, bool, int]:
    """The processor's seconds of a process and all below it, whether one of their threads runs, the most bytes of one.

    A thread that waits for a disk counts as running; of a process that has ended nothing is known.
    """
    place, seconds, busy, held, below = Path(f"/proc/{process}"), 0.0, False, 0, []
    for task in place.glob("task/*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has ended
            busy |= _stat(task)[0] in "RD"
            below += map(int, (task / "children").read_text().split())
    with contextlib.suppress(OSError, ValueError, IndexError):  # the process has ended
        seconds = sum(map(int, _stat(place)[11:15])) / os.sysconf("SC_CLK_TCK")
        held = int((place / "status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    found = [(seconds, busy, held), *map(spent, below)]
    return sum(each[0] for each in found), any(each[1] for each in found), max(each[2] for each in found)


def _stat(place: Path) -> list[str]:
    """The numbers of a process or thread, from its state on: 11 to 14 are its time and that of children that ended."""
    return (place / "stat").read_text().rpartition(")")[2].split()


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
        raise AssertionError(f"{result}, {SLOW}: {seconds:.1f} s")
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
