"""`mlfem preview`: a contact sheet of a prepared data set, to see whether gaze lies where it should."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float32
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlfem_jax.data.batches import open_dataset
from mlfem_jax.data.example import decode_density, decode_photo, record_id
from mlfem_jax.files import keep_record, refuse_foreign, replacing
from mlfem_jax.gaze import check_sigma, gaze_density


def preview(
    name: tyro.conf.Positional[str],
    *,
    out: Path,
    data_dir: Path = Path("data"),
    split: str | None = None,
    count: int = 12,
    columns: int = 4,
    sigma_px: float | None = None,
    seed: int = 0,
) -> Path:
    """The picture file of some photographs with their fixations (dots) and their GFDM (colors) on them.

    Where a data set has no fixations on an image, its released density map is shown.

    Args:
        name: a prepared data set below `data_dir`, or the folder of one.
        out: the picture to write; its suffix chooses the format.
        data_dir: the folder given to `mlfem prepare --to`.
        split: name of a split. Default: the only one.
        count: number of photographs, drawn at random.
        columns: photographs in a row.
        sigma_px: standard deviation of the Gaussian on each fixation, in pixels. Default: the data set's own.
        seed: of the draw.

    Returns:
        `out`.

    Raises:
        FileNotFoundError: if the data set was not prepared.
        FileExistsError: if `out` is there and no earlier preview wrote it.
        ValueError: if a number is not above 0, or the data set has no sigma of its own and none is given.
    """
    if min(count, columns) < 1:
        raise ValueError(f"count, columns: expected numbers above 0, got {count} and {columns}")
    refuse_foreign(out.parent, [out.name])
    if sigma_px is not None:
        check_sigma(sigma_px)
    forms = Figure().canvas.get_supported_filetypes()
    if (out.suffix[1:] or "png").lower() not in forms:
        raise ValueError(f"out: expected a name that ends in one of {', '.join(sorted(forms))}, got {out.name!r}")
    source = open_dataset(name if Path(name).is_dir() else data_dir / name, split)
    sigma_px = source.dataset_info.metadata["sigma_px"] if sigma_px is None else sigma_px
    chosen = np.random.default_rng(seed).permutation(len(source))[:count]
    figure = draw_sheet([source[int(i)] for i in np.sort(chosen)], sigma_px=sigma_px, columns=columns)
    out.parent.mkdir(parents=True, exist_ok=True)
    keep_record(out.parent)
    with replacing(out) as file:
        figure.savefig(file, format=out.suffix[1:] or "png", dpi=100)
    return out


def draw_sheet(records: list[Mapping[str, Any]], *, sigma_px: float | None, columns: int = 4) -> Figure:
    """The contact sheet of some records.

    Args:
        records: of a prepared data set, at least one.
        sigma_px: standard deviation of the Gaussian on each fixation, in pixels; None will do only where no
            record has fixations.
        columns: photographs in a row.

    Returns:
        A figure with one pair of axes for each record, in order.

    Raises:
        ValueError: if an image does not decode, or a record has fixations and `sigma_px` is None.
    """
    rows = -(-len(records) // columns)
    figure = Figure(figsize=(4 * columns, 3.3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for panel in panels:
        panel.set_axis_off()
    for panel, record in zip(figure.axes, records, strict=False):
        _draw(panel, record, sigma_px)
    return figure


def _draw(panel: Axes, record: Mapping[str, Any], sigma_px: float | None) -> None:
    photo = decode_photo(record)
    density = _density(record, photo.shape[:2], sigma_px)
    strength = density / max(float(density.max()), np.finfo(np.float32).tiny)
    panel.imshow(photo)
    panel.imshow(strength, cmap="turbo", vmin=0, vmax=1, alpha=0.65 * np.sqrt(strength))
    y, x = np.asarray(record["fixations"]).T
    panel.scatter(x, y, s=5, c="white", edgecolors="black", linewidths=0.4)
    observers = len(set(np.asarray(record["observers"]).tolist()) - {-1})
    panel.set_title(f"{record_id(record)}: {len(x)} fixations, {observers} observers", fontsize=9)
    height, width = photo.shape[:2]
    panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _density(record: Mapping[str, Any], shape: tuple[int, int], sigma_px: float | None) -> Float32[np.ndarray, "H W"]:
    if len(record["fixations"]) == 0:
        return decode_density(record, shape, (0, 0, *shape))
    if sigma_px is None:
        raise ValueError(
            f"sigma_px: expected one, got none; record {record_id(record)!r} has fixations, its data set no sigma"
        )
    return np.asarray(gaze_density(record["fixations"], shape, sigma_px=sigma_px))
