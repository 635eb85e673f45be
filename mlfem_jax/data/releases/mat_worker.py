"""A program of its own that reads MATLAB files: scipy's reader, in C, crashes on some that are damaged.

`python -P mat_worker.py FD` serves requests on a connection: (path, variable, seconds of the processor) in; out
("value", array), or names and shapes where no variable is asked for, ("missing", names of the variables there),
("refused", why) or ("error", what is wrong). `mlfem_jax.data.releases.mat` starts it; it imports nothing of ours.
"""

import math
import os
import resource
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

MEMORY = 1024**3
DENSE = 10**8  # elements of a sparse matrix that is written out


def serve(connection: Connection) -> None:
    """Answers requests until the other end is closed."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import scipy.io  # noqa: F401 (before it counts as time of the first file)

    connection.send("ready")
    while True:
        try:
            path, variable, cpu_s = connection.recv()
        except EOFError:
            return
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + cpu_s), hard))
        try:
            connection.send(read(path, variable))
        except MemoryError:
            connection.send(("error", f"what it says that it holds does not fit into {MEMORY // 2**20} MiB"))
        except Exception as error:  # scipy raises many unrelated types on damaged files
            connection.send(("error", " ".join(f"{type(error).__name__}: {error}".split())[:200]))


def read(path: str, variable: str | None) -> tuple[str, Any]:
    """The answer to one request: a variable, or without one the names and shapes of all."""
    import scipy.io

    try:
        if variable is None:
            return "value", [(name, shape) for name, shape, _ in scipy.io.whosmat(path)]
        content = scipy.io.loadmat(path, variable_names=[variable])
    except NotImplementedError:
        return "refused", "a MATLAB 7.3 file; save it again with -v7"
    if variable not in content:
        return "missing", [name for name, *_ in scipy.io.whosmat(path)]
    return "value", plain(content[variable])


def plain(value: Any) -> Any:
    """The value with every sparse matrix in it written out; ValueError for what is no array of numbers or text."""
    import numpy as np
    import scipy.sparse

    if scipy.sparse.issparse(value):
        if value.shape[0] * value.shape[1] > DENSE:
            raise ValueError(
                f"expected a sparse matrix of at most {DENSE} elements, to be written out, got one of {value.shape}"
            )
        value = value.toarray()
    if type(value) is np.void:  # one struct of an array of them
        return tuple(plain(value[name]) for name in value.dtype.names or ())
    if type(value) is not np.ndarray:
        raise ValueError(f"expected numbers, text, cells or structs, got a {type(value).__name__}")
    if value.dtype.hasobject:
        written = np.empty(value.size, value.dtype)
        for i, item in enumerate(value.ravel()):
            written[i] = plain(item)
        return written.reshape(value.shape)
    if value.dtype.kind not in "biufU":
        raise ValueError(f"expected real numbers or text, got {value.dtype}")
    return value


if __name__ == "__main__":
    for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(threads, "1")  # each thread would take its share of the memory allowed
    serve(Connection(int(sys.argv[1])))
