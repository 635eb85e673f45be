"""Files of sound, film, volumes and arrays to what a network of such data takes."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from mlfem_jax.backbones import Backbone, samples_per_s_of
from mlfem_jax.data import as_stored, read_recording_file
from mlfem_jax.files import printable


def read_recording(file: Path, backbone: Backbone) -> Shaped[np.ndarray, "T ..."]:
    """What a file holds, as the network takes it, of any length along the first axis.

    See `mlfem_jax.data.read_recording_file`. Sound gets the network's rate, film its frames.

    Args:
        file: its suffix tells what it holds.
        backbone: of `crepe_tiny` it gets 16,000 samples a second.

    Returns:
        (T, ...) uint8 or float32, one channel without an axis for it.

    Raises:
        ValueError: the file is missing, damaged, too large, of another shape, or holds NaN or infinity; names it.
        ModuleNotFoundError: PyAV or nibabel is not installed.
    """
    axes = len(backbone.input_size)
    height_width = (backbone.input_size[1], backbone.input_size[2]) if axes == 3 else None
    found = read_recording_file(
        file, sound=axes == 1, samples_per_s=samples_per_s_of(backbone.name), frame=height_width
    ).values
    wanted = backbone.input_shape[1:-1] if backbone.channels == 1 else backbone.input_shape[1:]
    if backbone.channels == 1 and found.shape[1:] == (*wanted, 1):
        found = found[..., 0]
    if found.shape[1:] != wanted:
        raise ValueError(
            f"{printable(str(file))}: expected numbers of shape {('T', *wanted)}, got {found.shape} of {found.dtype}"
        )
    return as_stored(found, file)
