"""Reads a Keras file in a process of its own: damaged files can crash HDF5's library, and that takes its process along.

`python -m mlfem_jax.backbones.files.hdf5_process FILE OUT` writes the arrays to OUT as .npz and prints their names.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mlfem_jax.backbones.files.keras_file import read_keras_file
from mlfem_jax.files import allowance, fault, read_npz_file

_SECONDS = 8
_BYTES_PER_SECOND = 10_000_000  # of a slow disk


def read_apart(path: Path) -> dict[str, np.ndarray]:
    """What `read_keras_file` returns, read by another process with a limit on its memory and time.

    Args:
        path: the HDF5 file.

    Raises:
        ModuleNotFoundError: h5py is not installed.
        ValueError: as `read_keras_file`, or the process died; does not name the file.
    """
    if importlib.util.find_spec("h5py") is None:
        raise ModuleNotFoundError(f"{path}: reading a Keras file needs h5py: pip install h5py")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "arrays.npz")
        command = [sys.executable, "-m", __spec__.name, str(path.absolute()), str(out)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        seconds = 20 * (_SECONDS + path.stat().st_size / _BYTES_PER_SECOND)
        try:
            found = subprocess.run(command, env=environment, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise ValueError(
                "expected a whole HDF5 file, got a damaged one: its library does not come to an end"
            ) from error
        if found.returncode or not found.stdout:
            raise ValueError(
                f"expected a whole HDF5 file, got a damaged one: its library failed with status {found.returncode}"
            )
        said = json.loads(found.stdout)
        if "error" in said:
            raise ValueError(said["error"])
        return dict(zip(said["names"], read_npz_file(out).values(), strict=True))


def _limit(present: int) -> None:
    """No more memory than the arrays may take twice, and no more time than a slow disk needs."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    mapped = Path("/proc/self/statm")
    taken = int(mapped.read_text().split()[0]) * resource.getpagesize() if mapped.exists() else 2**32
    memory = taken + 2 * allowance(present, packed=True)
    seconds = int(_SECONDS + present / _BYTES_PER_SECOND)
    for kind, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        soft, hard = resource.getrlimit(kind)
        least = min(limit, *(other for other in (soft, hard) if other != resource.RLIM_INFINITY), limit)
        resource.setrlimit(kind, (least, hard))


def _main(file: str, out: str) -> None:
    _limit(Path(file).stat().st_size)
    try:
        arrays = read_keras_file(Path(file))
        np.savez(out, *arrays.values())
        said = {"names": list(arrays)}
    except Exception as error:
        said = {"error": fault(error)[:2000]}
    print(json.dumps(said))


if __name__ == "__main__":
    _main(*sys.argv[1:])
