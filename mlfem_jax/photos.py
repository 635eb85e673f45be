"""Photographs: image files of any kind to uint8 arrays, and from their size to the network's and back."""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Array, Float32, Shaped, UInt8
from PIL import ExifTags, Image, ImageOps

ImageFile: TypeAlias = str | os.PathLike[str] | bytes | io.BufferedIOBase
ResizeRule = Literal["stretch", "crop", "native"]
RESIZE_RULES: tuple[str, ...] = get_args(ResizeRule)
_BAND = 256  # rows that are converted at a time
MAX_PIXELS = 2**26
"""Of an image file, 67 million: the 64 of a telephone and the 61 of a full-frame camera, and under 10 s to decode."""
PHOTO_SUFFIXES = frozenset(".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pgm .png .pnm .ppm .tif .tiff .webp".split())


def read_photo(file: ImageFile, *, upright: bool = True, name: str | None = None) -> UInt8[np.ndarray, "H W 3"]:
    r"""The photograph in a file, upright, as 8-bit RGB.

    The EXIF orientation is applied. Transparent pixels are composited on white. 16-bit gray is scaled from
    its whole range, 0 to 65535 (Pillow alone would clip it at 255); 16-bit color keeps its high byte.
    32-bit integers are taken as 0 to 65535 and 32-bit floats as 0 to 1 where all values lie there, and are
    stretched from their own minimum and maximum otherwise. CMYK becomes RGB by the plain formula, and a
    CMYK JPEG is taken as inverted, as Adobe writes them. Color profiles are not applied. Of several frames
    or pages, the first is read.

    Args:
        file: a path, the bytes of an image file, or a binary file open for reading.
        upright: False leaves the pixels as they are stored, whatever EXIF says: the frame that gaze is given in.
        name: what errors call the file. Default: its path.

    Returns:
        (H, W, 3) RGB, 0 to 255.

    Raises:
        ValueError: one line that names the file, if it is missing, empty, truncated, corrupt, not an image, a pipe or
            a device, or has more pixels than `MAX_PIXELS` or `PIL.Image.MAX_IMAGE_PIXELS` (a decompression bomb).

    Example:
        >>> read_photo(b"P5 2 1 255\n" + bytes([0, 200])).tolist()
        [[[0, 0, 0], [200, 200, 200]]]
    """
    with open_image(file, name=name) as image:
        return _decode(ImageOps.exif_transpose(image) if upright else image)


def stored_size(file: ImageFile, *, name: str | None = None) -> tuple[tuple[int, int], bool]:
    r"""Size of a photograph that `read_photo` reads, and whether its EXIF tells viewers to rotate or mirror it.

    A JPEG is read to its end, but only one pixel in 64 is computed: that is faster than `read_photo`.

    Args:
        file: as for `read_photo`.
        name: what errors call the file. Default: its path.

    Returns:
        ((height, width), rotated), the size as it is stored.

    Raises:
        ValueError: as `read_photo`.

    Example:
        >>> stored_size(b"P5 2 1 255\n" + bytes([0, 200]))
        ((1, 2), False)
    """
    with open_image(file, name=name) as image:
        width, height = image.size
        rotated = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        if image.format == "JPEG":
            image.draft("L", (1, 1))
        _decode(image)
        return (height, width), rotated


@contextlib.contextmanager
def open_image(file: ImageFile, *, name: str | None = None) -> Iterator[Image.Image]:
    r"""An image file opened by Pillow; whatever goes wrong in the block is one ValueError that names the file.

    Args:
        file: as for `read_photo`.
        name: what errors call the file. Default: its path.

    Returns:
        A context manager that gives the image, not decoded yet.

    Example:
        >>> with open_image(b"P5 2 1 255\n" + bytes([0, 200])) as image:
        ...     image.mode
        'L'
    """
    if isinstance(file, bytes):
        name, file = name or f"image of {len(file)} bytes", io.BytesIO(file)
    elif isinstance(file, io.BufferedIOBase):
        name = name or str(getattr(file, "name", "image file"))
    else:
        name = name or os.fspath(file)
    source: Any = file
    try:
        mode = stat.S_IFREG if isinstance(file, io.IOBase) else os.stat(file).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ValueError("expected a file, got a pipe, a socket or a device")
        with Image.open(source) as image:
            if image.width * image.height > _most_pixels():
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            yield image
    except Exception as error:  # what Pillow raises for a corrupt file depends on the format
        message = f"{name}: {_reason(error)}"
        raise ValueError(message) from error


def check_frame(frame: tuple[int, int]) -> None:
    """Refuses a frame that no photograph can be read into.

    Args:
        frame: (height, width) in pixels.

    Raises:
        ValueError: a side is below 1, or it has more than `MAX_PIXELS`.
    """
    if min(frame) < 1:
        raise ValueError(f"frame: expected a height and a width of at least 1, got {frame}")
    if frame[0] * frame[1] > MAX_PIXELS:
        raise ValueError(f"frame: expected at most {MAX_PIXELS:,} pixels, got {frame}")


def own_frame(shape: tuple[int, int], frame: tuple[int, int], *, step: int = 32) -> tuple[int, int]:
    """The size at which a photograph has about as many pixels as `frame`, and its own proportions.

    Args:
        shape: (height, width) of the photograph.
        frame: (height, width) whose number of pixels is wanted; that it is landscape or portrait says nothing.
        step: both sides are multiples of it, so that photographs of nearly the same proportions share one compiled
            program, and the layers of a network halve evenly.

    Returns:
        (height, width), each at least `step`.

    Raises:
        ValueError: see `check_frame`.

    Example:
        >>> own_frame((600, 800), (384, 512)), own_frame((1024, 768), (384, 512)), own_frame((500, 500), (384, 512))
        ((384, 512), (512, 384), (448, 448))
    """
    check_frame(frame)
    scale = (frame[0] * frame[1] / (shape[0] * shape[1])) ** 0.5
    height, width = (max(step, round(side * scale / step) * step) for side in shape)
    return height, width


def resize_photo(
    image: Shaped[np.ndarray, "H W 3"], size: tuple[int, int], *, rule: str = "stretch"
) -> Shaped[np.ndarray, "h w 3"]:
    """The photograph at the network's input size.

    Resampling is Pillow's bilinear, as in torchvision's ImageNet transforms: its triangle widens with the
    reduction, so large photographs are not aliased, and it never overshoots.

    Args:
        image: (H, W, 3) photograph, uint8 or float.
        size: (height, width) in pixels of the network's input.
        rule: "stretch" the whole photograph to `size`, whatever its proportions; "crop" the largest centered
            part that has the proportions of `size`, then resize that; or "native", the photograph as it is.

    Returns:
        (h, w, 3) of `size`; of the photograph's own size for "native". uint8 stays uint8, floats become float32.

    Raises:
        ValueError: if `rule` is none of these.

    Example:
        >>> resize_photo(np.zeros((30, 40, 3), np.uint8), (8, 8), rule="crop").shape
        (8, 8, 3)
    """
    if rule == "native":
        return image
    top, left, height, width = _box(image.shape[:2], size, rule)
    box = (left, top, left + width, top + height)
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR, box=box))
    planes = [Image.fromarray(plane) for plane in np.moveaxis(image.astype(np.float32), -1, 0)]
    resized = [plane.resize(size[::-1], Image.Resampling.BILINEAR, box=box) for plane in planes]
    return np.stack([np.asarray(plane) for plane in resized], axis=-1)


def place_map(
    importance: Float32[Array | np.ndarray, "h w"], shape: tuple[int, int], *, rule: str = "stretch"
) -> Float32[np.ndarray, "H W"]:
    """A map of the resized photograph laid back onto the photograph: the inverse of `resize_photo`.

    Args:
        importance: (h, w), computed on the network's input.
        shape: (height, width) in pixels of the photograph.
        rule: the rule by which the photograph was resized.

    Returns:
        (H, W) of `shape`, linearly interpolated with half-pixel centers; zeros where "crop" cut the
        photograph.

    Raises:
        ValueError: if `rule` is none of `RESIZE_RULES`.

    Example:
        >>> place_map(np.ones((1, 1), np.float32), (1, 3), rule="crop").tolist()
        [[0.0, 1.0, 0.0]]
    """
    array = np.asarray(importance)
    top, left, height, width = _box(shape, (array.shape[0], array.shape[1]), rule)
    inside = Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR)
    placed = np.zeros(shape, np.float32)
    placed[top : top + height, left : left + width] = np.asarray(inside)
    return placed


def _decode(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode.startswith(("I", "F")):
        return _deep_gray(image)
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND):  # whole, it would be three copies of 4 bytes a pixel
        band = image.crop((0, top, image.width, min(top + _BAND, image.height))).convert("RGBA")
        white = Image.new("RGBA", band.size, "white")
        pixels[top : top + _BAND] = np.asarray(Image.alpha_composite(white, band).convert("RGB"))
    return pixels


def _deep_gray(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """A gray image of more than 8 bits (modes I;16, I, F) as 8-bit RGB."""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("expected finite numbers, got some that are not finite")
    low, high = 0.0, 1.0 if image.mode == "F" else 65535.0
    if values.min() < low or values.max() > high:
        low, high = float(values.min()), float(values.max())
    gray = np.empty(values.shape, np.uint8)
    for row, line in zip(gray, values, strict=True):  # row by row: float64 of the whole would be 8 bytes a pixel
        row[:] = np.rint((line.astype(np.float64) - low) / (high - low or 1.0) * 255)
    if "transparency" in image.info:  # the one gray value that stands for "transparent"
        gray[values == image.info["transparency"]] = 255
    return np.repeat(gray[..., None], 3, axis=-1)


def _most_pixels() -> int:
    return min(MAX_PIXELS, Image.MAX_IMAGE_PIXELS or MAX_PIXELS)


def _reason(error: Exception) -> str:
    """What is wrong with the file, on one line."""
    if isinstance(error, FileNotFoundError):
        return "expected an image file, got none: no such file, and no file matches it"
    if isinstance(error, IsADirectoryError):
        return "expected an image file, got a folder: no images in this folder, or it cannot be read"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"expected a photograph of at most {_most_pixels()} pixels, got too many pixels ({error})"
    if isinstance(error, Image.UnidentifiedImageError):
        return "expected an image of a kind that can be read, got one that is empty, damaged, or not an image"
    text = " ".join(str(error).split() or [type(error).__name__])
    return text if text.startswith("expected ") else f"expected an image, got what cannot be read as one: {text}"


def _box(shape: tuple[int, int], size: tuple[int, int], rule: str) -> tuple[int, int, int, int]:
    """Top, left, height, width in whole pixels of the part of a photograph of `shape` that `size` shows."""
    if rule not in RESIZE_RULES:
        raise ValueError(f"rule: expected one of {', '.join(RESIZE_RULES)}, got {rule!r}")
    if rule != "crop":
        return 0, 0, *shape
    scale = max(size[0] / shape[0], size[1] / shape[1])
    height, width = (max(1, min(side, round(to / scale))) for side, to in zip(shape, size, strict=True))
    return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width
