"""What the page shows of a recording: a signal as a curve, anything else as the picture that the table keeps."""

import io

import numpy as np
from PIL import Image

from mlfem_jax.gallery import draw_signal


def draw_recording(kept: bytes) -> bytes:
    """A JPEG file of what a table keeps of a recording, see `mlfem_jax.scores`.

    Args:
        kept: a NumPy file: (L, C) numbers of a signal, or (H, W, 3) uint8 pixels.

    Example:
        >>> file = io.BytesIO()
        >>> np.save(file, np.sin(np.arange(100) / 5)[:, None])
        >>> Image.open(io.BytesIO(draw_recording(file.getvalue()))).size
        (900, 90)
    """
    numbers = np.load(io.BytesIO(kept), allow_pickle=False)
    blank = np.zeros(len(numbers), np.float32)
    picture = draw_signal(numbers, blank, size=(90, 900)) if numbers.ndim == 2 else numbers
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=85)
    return file.getvalue()
