"""MATLAB files, read by another process: one that crashes scipy's reader, or keeps it busy for ever, is an error."""

import atexit
import contextlib
import functools
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import numpy as np

from mlfem_jax.data.releases.files import check_file, named

START_S = 60.0  # for the process to start, scipy to be imported
CPU_S = 5.0  # of the processor for a small file; larger ones get more
CPU_S_PER_MB = 2.0  # OSIE's 0.75 MB take 1 s
LIMIT_S = 120.0  # of the clock, beside those: a busy machine is slow, and is no fault of the file

_TURN = threading.Lock()


def load_mat(path: Path, variable: str) -> np.ndarray:
    """`variable` of a MATLAB file, as scipy reads it, sparse matrices written out.

    One process reads all files, and another takes its place where it died or took too long.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no MATLAB file up to version 7.2, or has no such variable, or that holds
            something else than real numbers, text, cells and structs.
    """
    check_file(path, f"it should hold the MATLAB variable {variable!r}")
    return _answer(path, variable)


def mat_shapes(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each variable of a MATLAB file, from their headers alone.

    Raises:
        ValueError: as `load_mat`.
    """
    check_file(path, "it should be a MATLAB file")
    return _answer(path, None)


def _answer(path: Path, variable: str | None) -> Any:
    with _TURN:
        kind, value = _ask(str(path.absolute()), variable, CPU_S + CPU_S_PER_MB * path.stat().st_size / 1e6)
    if kind == "missing":
        raise ValueError(f"{named(path)}: expected the variable {variable!r}, got {', '.join(value) or 'none'}")
    if kind == "refused":
        raise ValueError(f"{named(path)}: expected a MATLAB file up to version 7.2, got {value}")
    if kind == "error":
        raise ValueError(f"{named(path)}: expected a whole MATLAB file, got another, perhaps truncated ({value})")
    return value


def _ask(path: str, variable: str | None, cpu_s: float) -> tuple[str, Any]:
    process, connection = _worker()
    answered = False
    try:
        connection.send((path, variable, cpu_s))
        if not connection.poll(LIMIT_S + cpu_s):
            return "error", f"reading it took over {LIMIT_S + cpu_s:.0f} s"
        answer = connection.recv()
        answered = True
        return answer
    except (EOFError, OSError):
        return "error", f"its reader crashed, or computed for over {cpu_s:.0f} s"
    finally:  # what did not answer, or was not heard because of Ctrl-C, is not asked again
        if not answered:
            _worker.cache_clear()
            _stop(process, connection)


@functools.cache
def _worker() -> tuple[subprocess.Popen, Connection]:
    """The process that reads, started, and the connection to it."""
    connection, its_end = Pipe()
    program = Path(__file__).with_name("mat_worker.py")
    with its_end:
        process = subprocess.Popen(  # -P: the modules beside the program do not stand in for any library's
            [sys.executable, "-P", str(program), str(its_end.fileno())],
            pass_fds=[its_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    atexit.register(_stop, process, connection)
    with contextlib.suppress(EOFError):
        if connection.poll(START_S) and connection.recv():
            return process, connection
    raise OSError(f"{program}: the process that reads MATLAB files did not start within {START_S:.0f} s")


def _stop(process: subprocess.Popen, connection: Connection) -> None:
    connection.close()
    process.kill()
    process.wait()
