"""The HTML page of an evaluation: one file that opens from the disk, with no network, and shows every image."""

import base64
import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup
from PIL import Image

from mlfem_jax.files import replacing

Layout: TypeAlias = Literal["photos", "signals", "strips"]


@dataclasses.dataclass(frozen=True)
class ScoredImage:
    """One image on the page.

    Attributes:
        id: of the image.
        labels: names of its classes.
        prediction: name of the predicted class, and its probability.
        correct: None for unknown.
        clutter: number of things in it; None for unknown.
        scores: method by metric; NaN where undefined.
    """

    id: str
    labels: tuple[str, ...]
    prediction: str
    correct: bool | None
    clutter: int | None
    scores: Sequence[Sequence[float]]


def encode_pictures(photo: bytes, maps: Sequence[bytes], shape: tuple[int, int] | None = None) -> str:
    """One line of the page: a photograph and small maps, to be read only when the image is looked at.

    Args:
        photo: a JPEG file.
        maps: of uint8, row by row; the gaze first.
        shape: (height, width) in pixels of the maps. Default: they are squares.

    Returns:
        Base64 of the JPEG, then of a gray PNG file of each map, with spaces between.

    Raises:
        ValueError: a map that has another shape.
    """
    return " ".join(base64.b64encode(file).decode() for file in (photo, *(_png(one, shape) for one in maps)))


def write_score_page(
    path: str | os.PathLike,
    *,
    title: str,
    settings: Mapping[str, object],
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str]]]],
    tests: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str]]]],
    figures: Mapping[str, bytes],
    images: Sequence[ScoredImage],
    pictures: Sequence[str],
    gaze: bool,
    methods: Sequence[str],
    metrics: Sequence[Mapping[str, Any]],
    layout: Layout = "photos",
    recordings: bool = False,
) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: the HTML file to write or replace.
        title: of the page.
        settings: names and values under the title.
        tables: caption to (header, rows); what follows a "[" in a cell is set below it, fainter.
        tests: the same, folded at the end.
        figures: caption to a PNG file.
        images: those that can be looked at.
        pictures: the line of each image, from `encode_pictures`; empty for none.
        gaze: whether people's gaze is known, and shown beside the photograph.
        methods: names, in the order of the scores and of the maps after the gaze.
        metrics: {"name", "title", "higher"} of each.
        layout: what the pictures are: of "signals" the heat goes from paper to black, so that the curve shows through
            it; they and "strips" of films have a line each.
        recordings: they are of recordings, with events in place of gaze.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mlfem_jax.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    colormap = matplotlib.colormaps["inferno_r" if layout == "signals" else "inferno"]
    colors = (colormap(np.arange(256))[:, :3] * 255).round().astype(int)
    data = {
        "methods": list(methods),
        "metrics": list(metrics),
        "images": [dataclasses.asdict(image) | {"scores": _rounded(image.scores)} for image in images],
        "colors": colors.ravel().tolist(),
        "gaze": gaze,
        "layout": layout,
        "recordings": recordings,
    }
    page = environment.get_template("scores.html.jinja").render(
        title=title,
        settings=settings,
        tables=tables,
        tests=tests,
        figures={caption: base64.b64encode(file).decode() for caption, file in figures.items()},
        recordings=recordings,
        data=_script(json.dumps(data, allow_nan=False, separators=(",", ":"))),
        pictures=Markup("\n".join(pictures)),
    )
    with replacing(path) as file:
        file.write(page.encode())


def _script(text: str) -> Markup:
    """JSON that nothing in it can end the script of."""
    return Markup(text.replace("<", "\\u003c"))


def _rounded(scores: Sequence[Sequence[float]]) -> list[list[float | None]]:
    return [[round(value, 4) if np.isfinite(value) else None for value in row] for row in scores]


def _png(importance: bytes, shape: tuple[int, int] | None) -> bytes:
    height, width = shape or (round(len(importance) ** 0.5),) * 2
    if height * width != len(importance):
        wanted = f"{height} x {width} pixels" if shape else "squares"
        raise ValueError(f"maps: expected {wanted}, got one of {len(importance)} pixels")
    file = io.BytesIO()
    Image.frombytes("L", (width, height), importance).save(file, "PNG")
    return file.getvalue()
