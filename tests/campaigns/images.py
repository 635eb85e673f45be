"""Damaged photographs and density maps of every kind that is read: `python -m tests.campaigns.images [COUNT]`."""

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mlfem_jax.data.density import read_density
from mlfem_jax.photos import read_photo, stored_size
from tests.campaigns.trial import judged, main, mutated

COUNT = 1500


@functools.cache
def originals() -> dict[str, bytes]:
    """Name, with its suffix, to the bytes of a small valid image."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 4), np.uint8)
    rgb, rgba, gray = (Image.fromarray(noise[..., channels].copy()) for channels in (slice(3), slice(4), 0))
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    real = Image.fromarray(noise[..., 0].astype(np.float32) / 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = {
        "rgb.png": (rgb, {}), "rgba.png": (rgba, {}), "gray.png": (gray, {}), "deep.png": (deep, {}),
        "palette.png": (rgb.quantize(16), {"transparency": 0}), "bits.png": (gray.convert("1"), {}),
        "alpha.png": (rgba.convert("LA"), {}), "frames.png": (rgb, {"save_all": True, "append_images": [gray]}),
        "rgb.jpg": (rgb, {"exif": exif}), "gray.jpeg": (gray, {}), "late.jfif": (rgb, {"progressive": True}),
        "ink.jpg": (rgb.convert("CMYK"), {}), "rgb.gif": (rgb, {"save_all": True, "append_images": [gray]}),
        "rgb.bmp": (rgb, {}), "bits.bmp": (gray.convert("1"), {}), "plain.tif": (rgb, {}), "deep.tif": (deep, {}),
        "real.tiff": (real, {}), "lzw.tif": (rgba, {"compression": "tiff_lzw"}),
        "zip.tif": (rgb, {"compression": "tiff_adobe_deflate"}), "jpeg.tif": (rgb, {"compression": "jpeg"}),
        "fax.tif": (gray.convert("1"), {"compression": "group4"}), "rgb.webp": (rgb, {}),
        "exact.webp": (rgba, {"lossless": True}), "frames.webp": (rgb, {"save_all": True, "append_images": [gray]}),
        "rgb.avif": (rgb, {}), "rgba.avif": (rgba, {}), "rgb.jp2": (rgb, {}), "gray.jp2": (gray, {}),
        "rgb.ppm": (rgb, {}), "gray.pgm": (gray, {}), "bits.pnm": (gray.convert("1"), {}),
    }  # fmt: skip
    return {name: _encoded(image, name, options) for name, (image, options) in kinds.items()}


def _encoded(image: Image.Image, name: str, options: dict) -> bytes:
    Image.init()
    file = io.BytesIO()
    image.save(file, Image.EXTENSION[Path(name).suffix], **options)
    return file.getvalue()


def bomb(rng: random.Random) -> bytes:
    """A PNG of few bytes and as many pixels as are read, or more, or one that says so and ends."""
    side = rng.choice((3000, 8192, 9400, 2**31 - 1))
    depth, color, channels = rng.choice(((8, 0, 1), (16, 0, 2), (8, 2, 3), (8, 6, 4)))
    packer = zlib.compressobj(9)
    lines = packer.compress(bytes(side * channels + 1)) if side < 10000 else b""
    if side < 10000 and rng.random() < 0.5:
        lines += b"".join(packer.compress(bytes(side * channels + 1)) for _ in range(side - 1)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", lines), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def trial(seed: int, folder: Path) -> str:
    """A mutant as a photograph and as a density map: one is read as the other readers say, or refused in one line."""
    rng = random.Random(seed)
    name = rng.choice(sorted(originals()))
    data = bomb(rng) if seed % 100 == 99 else mutated(originals()[name], rng)
    path = folder / name
    path.write_bytes(data)
    found = {}

    def read(what: str, reader: Callable[[], object]) -> str:
        return judged(lambda: found.__setitem__(what, reader()), name)

    size = read("size", lambda: stored_size(data, name=name)[0])
    photo = read("photo", lambda: read_photo(path, upright=False))
    assert photo == size, f"{name}: {photo} as a photograph, its size is {size}"  # what is prepared can be read
    assert photo == "refused" or found.pop("photo").shape[:2] == found["size"]
    if read("density", lambda: read_density(data, name)) == "read":
        assert np.isfinite(found["density"]).all() and found["density"].min() >= 0
    return photo


if __name__ == "__main__":
    main("images", trial, COUNT)
