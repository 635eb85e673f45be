"""Sound, film and volumes in, a folder of pictures, maps and one page out: `mlfem explain` for networks of them."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mlfem_jax.backbones import Backbone
from mlfem_jax.data import windows
from mlfem_jax.files import printable, replacing
from mlfem_jax.gallery.names import file_names
from mlfem_jax.gallery.page import ExplainedPhoto
from mlfem_jax.gallery.pictures import draw_film, draw_signal, draw_slices, write_film
from mlfem_jax.gallery.read_recording import read_recording
from mlfem_jax.plot import picture_sheet, write_png

_PANEL = (90, 420)
"""Height and width in pixels of a signal on the sheet."""


def explain_recordings(
    paths: Sequence[Path],
    names: Sequence[tuple[str, str]],
    look: Callable[[Iterator[np.ndarray]], Iterator[Any]],
    backbone: Backbone,
    *,
    out: Path,
    method: str,
    settings: str,
    tell: Callable[[str], object],
) -> tuple[list[ExplainedPhoto], list[str]]:
    """Reads, explains and draws one file after the other; also gives a line for each that cannot be read.

    A recording that is longer than the network's input is cut into windows of that length, of which each has a map of
    its own, in [0, 1]; the last one is filled up by repeating its end, which the map leaves out.

    Args:
        paths: the files.
        names: what each is shown as, and the stem of its files.
        look: from windows to what `LookAll` gives of each.
        backbone: the network.
        out: folder to write to.
        method: name of the method whose map is the one.
        settings: a line for the sheets.
        tell: told of what cannot be read.
    """
    explained, failures = [], []
    for path, (shown, stem) in zip(paths, names, strict=True):
        try:
            recording = read_recording(path, backbone)
        except ValueError as error:
            failures.append(printable(str(error)))
            tell(f"mlfem: {failures[-1]}")
            continue
        results = list(look(windows(recording, backbone.input_size[0])))
        explained.append(_draw(recording, results, backbone, shown, stem, out=out, method=method, settings=settings))
    return explained, failures


def _draw(
    recording: np.ndarray,
    results: Sequence[Any],
    backbone: Backbone,
    shown: str,
    stem: str,
    *,
    out: Path,
    method: str,
    settings: str,
) -> ExplainedPhoto:
    maps, layers = (
        {
            name: np.concatenate([result[kind][name] for result in results])[: len(recording)]
            for name in results[0][kind]
        }
        for kind in ("maps", "layers")
    )
    probabilities = np.stack([result["probabilities"] for result in results])
    top = _top(probabilities, backbone)
    names = file_names(stem)
    importance = maps[method]
    peak = tuple(int(place) for place in np.unravel_index(importance.argmax(), importance.shape))
    picture = functools.partial(_picture, recording, peak=peak)
    write_png(out / names.photo, picture(np.zeros_like(importance)))
    write_png(out / names.overlay, picture(importance))
    sections = {"Importance maps": maps, "Layers, first to last": layers}
    panels = {heading: {name: picture(one, small=True) for name, one in of.items()} for heading, of in sections.items()}
    title = f"{shown}\n{top[0][0]} {100 * top[0][1]:.1f} %   ·   {settings}"
    write_png(out / names.sheet, picture_sheet(panels, title=title, columns=2))
    if recording.ndim == 4:
        write_film(out / names.film, recording, importance)
    with replacing(out / names.map) as file:
        np.save(file, importance)
    return ExplainedPhoto(shown, names.photo, names.overlay, names.sheet, names.map, top)


def _top(probabilities: Float[np.ndarray, "W classes"], backbone: Backbone) -> tuple[tuple[str, float], ...]:
    """The five most probable classes of all windows, each with where its window begins."""
    best = np.argsort(-probabilities, axis=None)[: min(5, probabilities.size)]
    found = []
    for window, index in zip(*np.unravel_index(best, probabilities.shape), strict=True):
        label = backbone.labels[index] if backbone.labels else f"class {index}"
        length = backbone.input_size[0]
        where = f" in the {length} from {window * length}" if len(probabilities) > 1 else ""
        found.append((f"{label}{where}", float(probabilities[window, index])))
    return tuple(found)


def _picture(
    recording: np.ndarray, importance: np.ndarray, *, peak: tuple[int, ...], small: bool = False
) -> UInt8[np.ndarray, "H W 3"]:
    """The recording with a map; a volume is cut at the peak of the method's map."""
    if importance.ndim == 1:
        return draw_signal(recording, importance, size=_PANEL if small else (160, 900))
    if importance.ndim == 3 and recording.ndim == 3:
        return draw_slices(recording, importance, at=(peak[0], peak[1], peak[2]), scale=2 if small else 4)
    return draw_film(recording, importance, frames=6, scale=1 if small else 3)
