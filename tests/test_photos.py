"""Photographs of every odd mode, written here by Pillow, with the pixels they must give worked by hand."""

import io
import struct
import warnings
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mlfem_jax.gallery.find import find_photos
from mlfem_jax.photos import own_frame, place_map, read_photo, resize_photo
from tests.test_messages import in_form


def encode(image, file_format="PNG", **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def palette_image():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    return image


deep = np.array([[0, 65535, 32896, 257]], np.uint16)  # 257 n is n in 8 bits

CASES = {
    "rgb": (encode(Image.new("RGB", (1, 1), (1, 2, 3))), [(1, 2, 3)]),
    "gray": (encode(Image.new("L", (1, 1), 7)), [(7, 7, 7)]),
    "one bit": (encode(Image.fromarray(np.array([[False, True]]))), [(0,) * 3, (255,) * 3]),
    # alpha 51 is 0.2: 0.2 x 10 + 0.8 x 255 = 206
    "gray + alpha": (encode(Image.new("LA", (1, 1), (10, 51))), [(206,) * 3]),
    # 0.2 x (10, 100, 0) + 0.8 x 255
    "rgb + alpha": (encode(Image.new("RGBA", (1, 1), (10, 100, 0, 51))), [(206, 224, 204)]),
    "palette": (encode(palette_image()), [(255, 0, 0), (0, 0, 255)]),
    "transparent palette": (encode(palette_image(), transparency=0), [(255, 255, 255), (0, 0, 255)]),
    # 0.2 x 255 + 0.8 x 255, 0.8 x 255
    "alpha palette": (
        encode(palette_image(), transparency=bytes([51, 255])),
        [(255, 204, 204), (0, 0, 255)],
    ),
    "transparent color": (encode(Image.new("RGB", (1, 1), (1, 2, 3)), transparency=(1, 2, 3)), [(255,) * 3]),
    "16-bit gray": (encode(Image.fromarray(deep)), [(0,) * 3, (255,) * 3, (128,) * 3, (1,) * 3]),
    "16-bit gray, transparent black": (
        encode(Image.fromarray(deep), transparency=0),
        [(255,) * 3, (255,) * 3, (128,) * 3, (1,) * 3],
    ),
    "16-bit TIFF": (encode(Image.fromarray(deep), "TIFF"), [(0,) * 3, (255,) * 3, (128,) * 3, (1,) * 3]),
    "16-bit big-endian TIFF": (
        encode(Image.fromarray(deep.astype(">u2")), "TIFF"),
        [(0,) * 3, (255,) * 3, (128,) * 3, (1,) * 3],
    ),
    "16-bit PGM": (
        b"P5 2 1 65535\n" + np.array([32896, 257], ">u2").tobytes(),
        [(128,) * 3, (1,) * 3],
    ),
    "32-bit integers": (
        # beyond 65535, so stretched from -100000 to 155000
        encode(Image.fromarray(np.array([[-100000, 155000, 28000]], np.int32)), "TIFF"),
        [(0,) * 3, (255,) * 3, (128,) * 3],
    ),
    "floats from 0 to 1": (
        encode(Image.fromarray(np.array([[0.2, 0.4]], np.float32)), "TIFF"),
        [(51,) * 3, (102,) * 3],
    ),
    "floats beyond 1": (
        encode(Image.fromarray(np.array([[-2.0, 8.0, 0.0]], np.float32)), "TIFF"),
        [(0,) * 3, (255,) * 3, (51,) * 3],
    ),
    "constant floats beyond 1": (
        encode(Image.fromarray(np.array([[7.0]], np.float32)), "TIFF"),
        [(0,) * 3],
    ),
    # cyan ink alone takes all the red away
    "CMYK": (encode(Image.new("CMYK", (1, 1), (255, 0, 0, 0)), "TIFF"), [(0, 255, 255)]),
    "animated GIF": (
        encode(
            Image.new("RGB", (1, 1), (255, 0, 0)),
            "GIF",
            save_all=True,
            append_images=[Image.new("RGB", (1, 1), (0, 255, 0))],
        ),
        [(255, 0, 0)],
    ),
    "TIFF of two pages": (
        encode(Image.new("L", (1, 1), 9), "TIFF", save_all=True, append_images=[Image.new("L", (1, 1), 200)]),
        [(9, 9, 9)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_mode_gives_the_pixels_worked_by_hand(name):
    data, pixels = CASES[name]
    photo = read_photo(data)
    assert photo.dtype == np.uint8 and photo.flags.writeable
    np.testing.assert_array_equal(photo, [pixels])


def test_a_cmyk_jpeg_is_inverted_as_adobe_writes_it():
    data = encode(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG")
    assert b"Adobe" in data
    np.testing.assert_allclose(read_photo(data)[4, 4].astype(int), [0, 255, 255], atol=3)


# The stored pixels are a row, (red, green, blue), that each orientation turns into what the camera saw.
@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (1, [["R", "G", "B"]]),
        (2, [["B", "G", "R"]]),
        (3, [["B", "G", "R"]]),
        (4, [["R", "G", "B"]]),
        (5, [["R"], ["G"], ["B"]]),
        (6, [["R"], ["G"], ["B"]]),
        (7, [["B"], ["G"], ["R"]]),
        (8, [["B"], ["G"], ["R"]]),
    ],
)
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation, shown, file_format):
    colors = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255)}
    image = Image.fromarray(np.array([[colors[c] for c in "RGB"]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(encode(image, file_format, exif=exif))
    np.testing.assert_array_equal(photo, [[colors[c] for c in row] for row in shown])


def test_a_photo_is_read_from_a_path_its_bytes_and_a_file(tmp_path):
    data = encode(Image.new("RGB", (2, 1), (1, 2, 3)))
    path = tmp_path / "a photo.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        for source in (path, str(path), data, file, io.BytesIO(data)):
            np.testing.assert_array_equal(read_photo(source), [[(1, 2, 3)] * 2])


noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
BROKEN = {
    "empty.png": (b"", "empty, damaged"),
    "note.png": (b"this is text", "not an image"),
    "cut.png": (encode(Image.fromarray(noise))[:2000], "cannot be read"),
    "cut.jpg": (encode(Image.fromarray(noise), "JPEG")[:900], "truncated"),
    "cut.tif": (encode(Image.fromarray(noise), "TIFF")[:1000], "cannot be read"),
    "cut.webp": (encode(Image.fromarray(noise), "WEBP")[:300], "cannot be read"),
    "nan.tif": (encode(Image.fromarray(np.array([[np.nan]], np.float32)), "TIFF"), "not finite"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line_that_names_it(tmp_path, name):
    data, reason = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=reason) as error:
        read_photo(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value) and in_form(str(error.value))


def test_missing_files_and_folders_without_images_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no\.png: expected an image file, got none: no such file"):
        read_photo(tmp_path / "no.png")
    (argument,) = find_photos([tmp_path])
    with pytest.raises(ValueError, match="expected an image file, got a folder: no images in this folder"):
        read_photo(argument)
    (argument,) = find_photos([tmp_path / "*.jpg"])
    with pytest.raises(ValueError, match=r"\*\.jpg: expected .*, got none: no such file, and no file matches"):
        read_photo(argument)


@pytest.mark.parametrize("limit", [5, 11])  # Pillow alone refuses twice its limit and warns from once
@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused(monkeypatch, tmp_path, limit):
    path = tmp_path / "bomb.png"
    path.write_bytes(encode(Image.new("L", (4, 3))))
    assert read_photo(path).shape == (3, 4, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings(), pytest.raises(ValueError, match=r"bomb\.png: expected .*, got too many pixels"):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        read_photo(path)


def test_more_pixels_than_a_camera_has_are_refused_before_they_are_decoded():
    side = 9400  # Pillow's own limit lets them pass
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))
    packed = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
              for kind, body in chunks)  # fmt: skip
    with pytest.raises(ValueError, match=rf"bomb\.png: expected .* {2**26} pixels, got too many pixels \(9400 x 9400"):
        read_photo(b"\x89PNG\r\n\x1a\n" + b"".join(packed), name="bomb.png")


def test_photos_are_found_in_natural_order_and_once(tmp_path):
    for name in [
        "img10.png",
        "img2.PNG",
        "notes.txt",
        "sub/a.jpg",
        ".hidden/b.jpg",
        "sub/[1].png",
        "sub/.c.png",
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(*arguments):
        return [str(path.relative_to(tmp_path)) for path in find_photos(arguments)]

    everything = ["img2.PNG", "img10.png", "sub/[1].png", "sub/a.jpg"]
    assert names(tmp_path) == everything
    assert names(tmp_path / "img10.png", tmp_path, tmp_path / "sub" / "a.jpg") == everything
    assert names(tmp_path / "img*") == ["img2.PNG", "img10.png"]
    assert names(tmp_path / "**" / "*.jpg") == ["sub/a.jpg"]
    assert names(tmp_path / "s*") == ["sub/[1].png", "sub/a.jpg"]
    assert names(tmp_path / "sub" / "[1].png") == ["sub/[1].png"]  # a file before a pattern
    assert names(tmp_path / "notes.txt") == ["notes.txt"]
    assert find_photos([]) == []


def test_stretch_averages_blocks():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = 200
    # A triangle of half-width 2 about x = 1 and x = 3 weighs the four columns 3, 3, 1, 0 (of 7).
    np.testing.assert_array_equal(resize_photo(image, (1, 2))[0, :, 0], [round(200 / 7), round(1200 / 7)])


def test_crop_takes_the_largest_centered_part():
    image = np.zeros((2, 6, 3), np.uint8)
    image[:, 2:4] = 100
    np.testing.assert_array_equal(resize_photo(image, (2, 2), rule="crop"), np.full((2, 2, 3), 100))
    np.testing.assert_array_equal(resize_photo(image, (3, 9), rule="crop").shape, (3, 9, 3))


def test_native_keeps_the_photo():
    assert resize_photo(noise, (7, 7), rule="native") is noise


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="expected one of stretch, crop, native, got 'fit'"):
        resize_photo(noise, (8, 8), rule="fit")
    with pytest.raises(ValueError, match="got 'fit'"):
        place_map(np.ones((2, 2), np.float32), (8, 8), rule="fit")


@pytest.mark.parametrize("array", [np.array, jnp.array])  # as `explain` gives maps of photographs of one size
def test_a_stretched_map_is_interpolated_between_half_pixel_centers(array):
    placed = place_map(array([[0.0, 1.0]], np.float32), (1, 4))
    np.testing.assert_allclose(placed, [[0, 0.25, 0.75, 1]], atol=1e-6)


def test_a_cropped_map_is_zero_outside_the_crop():
    placed = place_map(np.full((2, 2), 0.5, np.float32), (2, 6), rule="crop")
    np.testing.assert_allclose(placed, [[0, 0, 0.5, 0.5, 0, 0]] * 2)


@pytest.mark.parametrize("rule", ["stretch", "crop", "native"])
@pytest.mark.parametrize("shape", [(90, 60), (60, 91), (41, 41)])
def test_a_map_lies_on_the_thing(rule, shape):
    """A bright square near the center of the photo comes back where it was, whatever the rule."""
    y, x = shape[0] // 2 + 4, shape[1] // 2 - 6
    image = np.zeros((*shape, 3), np.uint8)
    image[y - 5 : y + 6, x - 5 : x + 6] = 255
    seen = resize_photo(image, (48, 32), rule=rule)[..., 0].astype(np.float32)
    placed = place_map(seen, shape, rule=rule)
    assert placed.shape == shape
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    center = [(placed * axis).sum() / placed.sum() for axis in (rows, columns)]
    np.testing.assert_allclose(center, (y, x), atol=0.3)


@pytest.mark.parametrize(
    ("shape", "frame", "expected"),
    [((600, 800), (384, 512), (384, 512)), ((800, 600), (384, 512), (512, 384)), ((300, 900), (384, 512), (256, 768)),
     ((10, 4000), (64, 64), (32, 1280)), ((333, 444), (512, 384), (384, 512))],
)  # fmt: skip
def test_a_photograph_keeps_its_proportions_in_a_frame(shape, frame, expected):
    assert own_frame(shape, frame) == expected


def test_a_frame_of_no_pixels_or_too_many_is_refused():
    with pytest.raises(ValueError, match=r"frame: expected a height and a width of at least 1, got \(0, 5\)"):
        own_frame((3, 4), (0, 5))
    with pytest.raises(ValueError, match=r"frame: expected at most 67,108,864 pixels, got \(100000, 100000\)"):
        own_frame((3, 4), (100000, 100000))
