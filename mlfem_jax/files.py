"""Files that are whole or not there: written beside their final name, then renamed into place."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file that takes `path`'s place when the block ends, and vanishes if the block fails.

    The temporary file has a name of its own in the same folder, so two processes may write the same path:
    the last to finish wins, and nobody ever reads half a file.

    Args:
        path: the file to write; its folder is made if need be.

    Returns:
        A context manager that gives the file, open for writing and reading.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "a.txt") as file:
        ...     _ = file.write(b"whole")
        >>> (folder / "a.txt").read_bytes()
        b'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name[:60]}.{uuid.uuid4().hex}.part")
    try:
        with open(beside, "x+b") as file:
            yield file
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def own_checkpointer() -> Any:
    """An orbax checkpointer that waits for no other process: the first one writes, and each reads for itself."""
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)
