"""A density map as it was released: an image file whose grey values say how much people looked there."""

import numpy as np
from jaxtyping import Float32

from mlfem_jax.photos import open_image

COLORED = 16  # difference of two channels from which a pixel is no grey: JPEG leaves a few levels between them


def read_density(encoded: bytes, name: str) -> Float32[np.ndarray, "H W"]:
    r"""The values of a density map, on the scale that the file has.

    Args:
        encoded: the bytes of an image file: grey of 1 to 32 bits or float, or a color image whose channels are equal.
        name: what errors call the file.

    Returns:
        (H, W) finite and not negative; all zeros where the map is blank.

    Raises:
        ValueError: the file does not decode, holds negative, NaN or infinite values, or is a picture of a map: one
            with a color map (its luminance is not the density) or with transparent pixels.

    Example:
        >>> read_density(b"P5 2 1 255\n" + bytes([0, 200]), "map.pgm").tolist()
        [[0.0, 200.0]]
    """
    with open_image(encoded, name=f"{name} does not decode") as image:
        plain = image.mode.startswith(("1", "L", "I", "F")) and not image.has_transparency_data
        pixels = np.array(image.convert("L") if image.mode == "1" else image if plain else image.convert("RGBA"))
    if not plain and pixels[..., 3].min() < 255:
        raise ValueError(f"{name}: expected a density map in grey, found a picture with transparent pixels")
    if not plain and int(np.ptp(pixels[..., :3], axis=-1).max()) > COLORED:
        raise ValueError(f"{name}: expected a density map in grey, found colors: give the map before its color map")
    values = pixels.astype(np.float32) if plain else pixels[..., :3].mean(axis=-1, dtype=np.float32)
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"{name}: expected a density map that is finite and not negative, found other values")
    return values
