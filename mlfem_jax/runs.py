"""A folder that belongs to one run: its settings, and with what they were computed."""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from mlfem_jax.files import read_json, replacing
from mlfem_jax.parallel import is_first

_FILE = "run.json"
_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def claim(folder: str | Path, settings: Mapping[str, Any], *, resume: bool = True) -> None:
    """Makes a folder that of a run, with `run.json` in it, or makes sure that it holds a run of the same settings.

    Args:
        folder: of the run, made if need be.
        settings: all that decides the result, which `json` can write.
        resume: go on with the run that the folder holds, if it has the same settings.

    Raises:
        FileExistsError: the folder holds a run and `resume` is False.
        ValueError: it holds a run of other settings; names each that differs.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> claim(folder, {"seed": 1})
        >>> read_settings(folder)
        {'seed': 1}
    """
    check_claim(folder, settings, resume=resume)
    path = Path(folder) / _FILE
    if is_first() and not path.exists():
        with replacing(path) as file:
            file.write(json.dumps({"settings": _as_json(settings), **provenance()}, indent=1).encode())


def check_claim(folder: str | Path, settings: Mapping[str, Any], *, resume: bool = True) -> None:
    """Makes sure that `claim` may have the folder, and leaves it as it is: for before the inputs are looked at.

    Args:
        folder: of the run.
        settings: as for `claim`.
        resume: as for `claim`.

    Raises:
        FileExistsError: as `claim`.
        ValueError: as `claim`.
    """
    if not holds_run(folder):
        return
    if not resume:
        raise FileExistsError(
            f"{folder}: expected a folder without a run, got one that holds a run already; "
            "choose another folder, or let it resume"
        )
    there, settings = read_settings(folder), _as_json(settings)
    names = [name for name in sorted({*there, *settings}) if there.get(name) != settings.get(name)]
    if names:
        unlike = [f"{name}: expected {there.get(name)!r}, got {settings.get(name)!r}" for name in names]
        raise ValueError(
            f"{folder}: expected the settings of the run that it holds, got other settings; name another folder "
            f"({'; '.join(unlike)})"
        )


def holds_run(folder: str | Path) -> bool:
    """Whether there is a run in a folder, of whatever settings."""
    return (Path(folder) / _FILE).exists()


def read_settings(folder: str | Path) -> dict[str, Any]:
    """The settings of the run that a folder holds.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no run.
        ValueError: its `run.json` is damaged, or not ours.
    """
    path = Path(folder) / _FILE
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: expected the folder of a run, got no folder of that name")
    if not path.exists():
        raise FileNotFoundError(f"{folder}: expected a run, with {_FILE}, got a folder without it")
    try:
        return dict(read_json(path)["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected the settings of a run, got something else ({error!r})") from error


def provenance() -> dict[str, Any]:
    """Versions, commit and machine: what a result needs beside its config to be made again.

    Example:
        >>> sorted(provenance())
        ['commit', 'devices', 'python', 'versions']
    """
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    return {
        "commit": found.stdout.strip() if found.returncode == 0 else None,  # none where it was installed
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "devices": [device.device_kind for device in jax.local_devices()],
    }


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from the file: lists for tuples."""
    return json.loads(json.dumps(settings))
