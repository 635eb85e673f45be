"""One explained photograph as files: its picture, an overlay, a sheet of all its maps, and the map."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlfem_jax.files import replacing
from mlfem_jax.gallery.names import file_names
from mlfem_jax.gallery.page import ExplainedPhoto
from mlfem_jax.gallery.why import write_why
from mlfem_jax.photos import ResizeRule, place_map, resize_photo
from mlfem_jax.plot import contact_sheet, overlay, write_png

PANEL = (240, 190)
"""Height and width in pixels that a panel of a contact sheet fits in."""


def draw_photo(
    photo: np.ndarray,
    shown: str,
    stem: str,
    result: dict[str, Any],
    *,
    out: Path,
    labels: Sequence[str],
    method: str,
    rule: ResizeRule,
    map_size: str,
    picture_px: int,
    settings: str,
) -> ExplainedPhoto:
    """Writes one photograph's files: four, and two more that say why, where that was asked for."""
    importance = result["maps"][method]
    top = tuple(
        (labels[index] if labels else f"class {index}", float(probability))
        for probability, index in zip(*result["top"], strict=True)
    )
    if not all(np.isfinite(probability) for _, probability in top):
        top = (("no prediction: the network's output is not a number,", 0.0),)
    names = file_names(stem)
    why = names.why if result["why"] else ""
    files = ExplainedPhoto(shown, names.photo, names.overlay, names.sheet, names.map, top, why)
    size = _fit(photo.shape[:2], (picture_px, picture_px))
    picture = resize_photo(photo, size)
    write_png(out / files.photo, picture)
    write_png(out / files.overlay, overlay(picture, place_map(importance, size, rule=rule)))
    best = "".join(f"{label} {100 * probability:.1f} %   ·   " for label, probability in top[:1])
    title = f"{shown}\n{best}{settings}"
    write_png(out / files.sheet, _sheet(photo, result, rule, title))
    if result["why"]:
        panel = _fit(photo.shape[:2], PANEL)
        write_why(out / files.why, photo, result["why"], panel=panel, rule=rule, title=title)
    with replacing(out / files.map) as file:
        np.save(file, importance if map_size == "input" else place_map(importance, photo.shape[:2], rule=rule))
    return files


def _sheet(photo: np.ndarray, result: dict[str, Any], rule: ResizeRule, title: str) -> np.ndarray:
    size = _fit(photo.shape[:2], PANEL)
    place = functools.partial(place_map, shape=size, rule=rule)
    layers = {
        f"{name}\n{importance.shape[0]} x {importance.shape[1]}": place(importance)
        for name, importance in result["layers"].items()
    }
    maps = {name: place(importance) for name, importance in result["maps"].items()}
    placed = {"Importance maps": maps, "Layers, first to last": layers}
    return contact_sheet(resize_photo(photo, size), placed, title=title)


def _fit(shape: tuple[int, int], into: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) of the same proportions that fits; never larger than `shape`."""
    scale = min(1.0, *(limit / side for limit, side in zip(into, shape, strict=True)))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
