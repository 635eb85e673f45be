"""Compiled programs: kept on disk, so that the next run need not compile them, and counted."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax


def keep_compiled(cache: str = "auto") -> None:
    """Makes JAX keep what it compiles in a folder. A library must not: only command lines call this.

    Args:
        cache: a folder; "none" for no folder; "auto" for what the environment variable MLFEM_CACHE says in the same
            terms, else JAX_COMPILATION_CACHE_DIR, else `user_cache_folder()`.
    """
    if cache == "auto":
        told = os.environ.get("MLFEM_CACHE") or os.environ.get("JAX_COMPILATION_CACHE_DIR")
        cache = told or str(user_cache_folder())
    jax.config.update("jax_compilation_cache_dir", None if cache == "none" else os.path.expanduser(cache))
    # JAX leaves out what compiles in under a second; here that adds up to most of a short run.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def user_cache_folder() -> Path:
    r"""The folder that this platform sets apart for caches, with a folder of ours in it.

    Returns:
        `$XDG_CACHE_HOME/mlfem_jax` (`~/.cache/mlfem_jax`), `~/Library/Caches/mlfem_jax` on macOS,
        `%LOCALAPPDATA%\mlfem_jax` on Windows. It need not exist.
    """
    home = Path.home()
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        caches = home / "Library" / "Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(caches) / "mlfem_jax"


@contextlib.contextmanager
def counted_compilations() -> Iterator[list[str]]:
    """The functions that XLA compiles in a block, or finds in the cache on disk: a list that grows as it happens.

    Returns:
        A context manager that gives the list of their names, such as "jit(run_batch)".

    Example:
        >>> with counted_compilations() as names:
        ...     for size in (3, 3, 4):
        ...         _ = jax.jit(lambda x: x * 2 + 1)(np.ones(size))
        >>> len(names) >= 2
        True
    """
    names: list[str] = []

    def note(event: str, duration_secs: float, **details: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(details.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
