"""A density map as it was released: an image file whose gray values say how much people looked there."""

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageChops

from mlfem_jax.photos import open_image

COLORED = 16  # difference of two channels from which a pixel is no gray: JPEG leaves a few levels between them


def read_density(encoded: bytes, name: str) -> Float32[np.ndarray, "H W"]:
    r"""The values of a density map, on the scale that the file has.

    Args:
        encoded: the bytes of an image file: gray of 1 to 32 bits or float, or a color image whose channels are equal.
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
    with open_image(encoded, name=name) as image:
        plain = image.mode.startswith(("1", "L", "I", "F")) and not image.has_transparency_data
        opaque, spread = (True, 0) if plain else _look(image)
        values = np.array(image if plain and image.mode != "1" else image.convert("L"), np.float32)
    if not opaque:
        raise ValueError(f"{name}: expected a density map in gray, got a picture with transparent pixels")
    if spread > COLORED:
        raise ValueError(f"{name}: expected a density map in gray, got colors; give the map before its color map")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"{name}: expected a density map that is finite and not negative, got other values")
    return values


def _look(image: Image.Image) -> tuple[bool, int]:
    """Whether all pixels are opaque, and the largest difference of two channels in one."""
    if image.has_transparency_data:
        image = image.convert("RGBA") if image.mode != "RGBA" else image
        if image.getchannel("A").getextrema() != (255, 255):
            return False, 0
    red, green, blue = image.convert("RGB").split()
    pairs = ((red, green), (green, blue), (blue, red))
    return True, max(int(np.asarray(ImageChops.difference(*pair)).max()) for pair in pairs)
