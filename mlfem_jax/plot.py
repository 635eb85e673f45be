"""Pictures of importance maps: the heat over the photograph, and the sheet of all layers and fusions."""

import functools
import math
import os
from collections.abc import Iterable, Mapping

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from mlfem_jax.files import replacing

INK, FAINT, LINE, PAPER = (24, 26, 30), (112, 116, 124), (222, 224, 228), (255, 255, 255)
MARGIN, GAP, CELL_PX, TITLE_PX, LABEL_PX = 28, 12, 140, 22, 14


def overlay(
    photo: UInt8[np.ndarray, "H W 3"],
    importance: Float[np.ndarray, "H W"],
    *,
    opacity: float = 0.8,
    colormap: str = "inferno",
) -> UInt8[np.ndarray, "H W 3"]:
    """The photograph with the map laid over it as heat.

    The heat's opacity is `opacity` times the map, so the photograph is untouched where the map is zero and
    shows less the more important a pixel is. The default color map is perceptually uniform: equal steps of
    the map look equally large.

    Args:
        photo: (H, W, 3).
        importance: (H, W), clipped to [0, 1]; NaN counts as 0.
        opacity: of the heat where the map is 1, from 0 to 1.
        colormap: a name known to matplotlib.

    Returns:
        (H, W, 3).

    Raises:
        ValueError: if `opacity` is outside [0, 1], or matplotlib knows no such color map.

    Example:
        >>> overlay(np.full((1, 2, 3), 100, np.uint8), np.array([[0.0, 1.0]]), opacity=1.0).tolist()
        [[[100, 100, 100], [252, 255, 164]]]
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity: expected a number from 0 to 1, got {opacity}")
    level = np.rint(np.clip(np.nan_to_num(importance), 0, 1) * 255).astype(np.uint8)
    alpha = (opacity / 255 * np.arange(256, dtype=np.float32))[:, None]
    heat = alpha * _colors(colormap)
    # Both tables have one row for each of 256 levels, so a large photograph costs two look-ups.
    return np.rint((1 - alpha)[level] * photo + heat[level]).astype(np.uint8)


def contact_sheet(
    photo: UInt8[np.ndarray, "H W 3"],
    sections: Mapping[str, Mapping[str, Float[np.ndarray, "_H _W"]]],
    *,
    title: str = "",
    columns: int = 7,
    opacity: float = 0.8,
    colormap: str = "inferno",
) -> UInt8[np.ndarray, "h w 3"]:
    """One picture of everything: the photograph and, in sections with headings, the maps laid over it.

    The maps are over a gray photograph, so that no color is mistaken for heat.

    Args:
        photo: (H, W, 3), at the size of one panel.
        sections: heading to captions to maps of the photograph's size, in [0, 1]. What follows a line break
            in a caption is set below it, fainter.
        title: a line at the top; a second line, after a line break, is set below it, fainter.
        columns: panels in a row.
        opacity: see `overlay`.
        colormap: see `overlay`.

    Returns:
        (h, w, 3), sized by the number of panels.

    Raises:
        ValueError: if a map's size is not the photograph's, or as `overlay`.

    Source:
        The arrangement follows the paper's Figure 1: a photograph, the maps of its layers, their fusions.
    """
    height, width = photo.shape[:2]
    gray = np.asarray(Image.fromarray(photo).convert("L").convert("RGB"))
    gray = (gray * 0.6 + 255 * 0.4).astype(np.uint8)
    pictures = {}
    for heading, maps in sections.items():
        for caption, importance in maps.items():
            if importance.shape != (height, width):
                raise ValueError(f"{caption}: expected a map of {(height, width)}, got {importance.shape}")
        pictures[heading] = {
            caption: overlay(gray, importance, opacity=opacity, colormap=colormap)
            for caption, importance in maps.items()
        }
    first = next(iter(pictures), "")
    pictures[first] = {"photograph": photo} | pictures.get(first, {})
    return _arrange(pictures, (height, width), title, columns)


def picture_sheet(
    sections: Mapping[str, Mapping[str, UInt8[np.ndarray, "_H _W 3"]]], *, title: str = "", columns: int = 7
) -> UInt8[np.ndarray, "h w 3"]:
    """One picture of pictures that are all of one size, in sections with headings.

    Args:
        sections: heading to captions to pictures.
        title: see `contact_sheet`.
        columns: see `contact_sheet`.

    Returns:
        (h, w, 3), sized by the number of pictures.

    Raises:
        ValueError: the pictures are not all of one size.
    """
    shapes = {picture.shape for pictures in sections.values() for picture in pictures.values()}
    if len(shapes) != 1:
        raise ValueError(f"sections: expected pictures of one size, got {sorted(shapes)}")
    height, width, _ = shapes.pop()
    return _arrange(sections, (height, width), title, columns)


def write_png(path: str | os.PathLike, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes the picture as PNG, whole or not at all.

    Args:
        path: the file to write or replace.
        image: (H, W, 3).
    """
    with replacing(path) as file:
        # Level 1 is several times faster than the default, for files a tenth larger.
        Image.fromarray(image).save(file, "PNG", compress_level=1)


def _arrange(
    sections: Mapping[str, Mapping[str, UInt8[np.ndarray, "H W 3"]]],
    panel: tuple[int, int],
    title: str,
    columns: int,
) -> UInt8[np.ndarray, "h w 3"]:
    height, width = panel[0], max(panel[1], CELL_PX)
    row_px = {heading: height + _caption_px(pictures) for heading, pictures in sections.items()}
    rows = {heading: math.ceil(len(pictures) / columns) for heading, pictures in sections.items()}
    top = MARGIN + round(1.5 * TITLE_PX) * len(title.splitlines())
    heading_px = 2 * TITLE_PX
    sheet_height = top + sum(heading_px + rows[heading] * row_px[heading] for heading in sections) + GAP
    sheet = Image.new("RGB", (2 * MARGIN + columns * (width + GAP) - GAP, sheet_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (MARGIN, MARGIN), title, TITLE_PX, sheet.width - 2 * MARGIN)
    for heading, pictures in sections.items():
        draw.line((MARGIN, top + 8, sheet.width - MARGIN, top + 8), fill=LINE)
        _write(draw, (MARGIN, top + 16), heading, LABEL_PX + 2, sheet.width - 2 * MARGIN)
        top += heading_px
        for index, (caption, picture) in enumerate(pictures.items()):
            x = MARGIN + index % columns * (width + GAP)
            y = top + index // columns * row_px[heading]
            sheet.paste(Image.fromarray(picture), (x, y))
            _write(draw, (x, y + height + 4), caption, LABEL_PX, width)
        top += rows[heading] * row_px[heading]
    return np.asarray(sheet)


def _caption_px(pictures: Iterable[str]) -> int:
    """Height below a panel that the longest caption takes, with the gap to the next row."""
    return round(1.25 * LABEL_PX) * max(len(caption.splitlines()) for caption in pictures) + 4 + GAP


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, width: int) -> None:
    """Writes the lines at (x, y), the first in bold, each cut to `width` with an ellipsis."""
    x, y = place
    for number, line in enumerate(text.splitlines()):
        font = _font(size if number == 0 else round(size * 0.85), bold=number == 0)
        if font.getlength(line) > width:
            while line and font.getlength(line + "…") > width:
                line = line[:-1]
            line += "…"
        draw.text((x, y), line, font=font, fill=FAINT if number else INK)
        y += round(1.25 * size)


@functools.cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: it has the letters of most scripts."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size)


def _colors(colormap: str) -> Float[np.ndarray, "256 3"]:
    """The color map's 256 colors, from 0 to 255."""
    from matplotlib import colormaps

    if colormap not in colormaps:
        raise ValueError(f"colormap: expected a name that matplotlib knows, got {colormap!r}")
    return colormaps[colormap].resampled(256)(np.arange(256))[:, :3].astype(np.float32) * 255
