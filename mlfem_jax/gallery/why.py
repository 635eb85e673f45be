"""Why a fusion of reweighted FEM drew its map: its layers and channels as a picture and a file for each photograph."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlfem_jax.attribution import Reasons
from mlfem_jax.files import replacing
from mlfem_jax.photos import place_map, resize_photo
from mlfem_jax.plot import contact_sheet, write_png

_SHOWN = 6
"""Channels of a layer in the picture; the file has more."""


def write_why(
    file: Path, photo: np.ndarray, reasons: Mapping[str, Reasons], *, panel: tuple[int, int], rule: str, title: str
) -> None:
    """Writes what each layer and its strongest channels gave to the map of one photograph: `file`, and a .json.

    Args:
        file: the PNG file to write or replace.
        photo: (H, W, 3).
        reasons: of each layer, of ONE photograph, as NumPy arrays.
        panel: (height, width) in pixels of a picture on the sheet.
        rule: how the photograph was resized.
        title: of the sheet.
    """
    total = sum(abs(float(reason.total)) for reason in reasons.values())
    described = {name: _described(reason, total) for name, reason in reasons.items()}
    sections = {"Layers, and their share of the sum of all": _placed(described, reasons, panel, rule)}
    for name, reason in reasons.items():
        shown = list(zip(described[name]["channels"], reason.parts, strict=True))[:_SHOWN]
        sections[f"{name}: the channels that gave most, and their share of the layer"] = {
            f"channel {one['channel']}\n{100 * one['share']:.1f} %": place_map(_scaled(part), panel, rule=rule)
            for one, part in shown
        }
    write_png(file, contact_sheet(resize_photo(photo, panel), sections, title=title))
    with replacing(file.with_suffix(".json")) as out:
        out.write((json.dumps({"layers": described}, indent=1) + "\n").encode())


def _described(reason: Reasons, total: float) -> dict[str, Any]:
    whole = float(reason.total)
    channels = [
        {"channel": int(channel), "share": float(part.sum()) / whole if whole else 0.0}
        for channel, part in zip(reason.channels, reason.parts, strict=True)
    ]
    return {"share": abs(whole) / total if total else 0.0, "sum": whole, "channels": channels}


def _placed(
    described: Mapping[str, dict[str, Any]], reasons: Mapping[str, Reasons], panel: tuple[int, int], rule: str
) -> dict[str, np.ndarray]:
    return {
        f"{name}\n{100 * described[name]['share']:.1f} %": place_map(_scaled(reason.map), panel, rule=rule)
        for name, reason in reasons.items()
    }


def _scaled(importance: Any) -> np.ndarray:
    peak = importance.max()
    return np.clip(importance / peak, 0, 1).astype(np.float32) if peak > 0 else np.zeros_like(importance, np.float32)
