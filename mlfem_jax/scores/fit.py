"""Densities fitted to the maps of methods, on images that are not scored: what `mlfem fit` does."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mlfem_jax.attribution import Method
from mlfem_jax.backbones import Forward, load_backbone
from mlfem_jax.data import ExampleFormat, fold_positions, open_dataset, read_batches, scan
from mlfem_jax.engine import map_batches
from mlfem_jax.files import keep_record, naming, printable, read_json, refuse_foreign, replacing
from mlfem_jax.gaze import DensityFit, fit_density
from mlfem_jax.scores.plan import parse_method


@dataclasses.dataclass(frozen=True)
class _Maps:
    """The maps of several methods, from one forward pass, at half the size of the network's input."""

    methods: tuple[Method, ...]

    def __call__(self, forward: Forward) -> jax.Array:
        maps = jnp.stack([method(forward) for method in self.methods], axis=1)
        return jax.image.resize(maps, (*maps.shape[:2], *(side // 2 for side in maps.shape[2:])), "linear")


def fit(
    directory: Path,
    out: Path,
    /,
    *,
    methods: tuple[str, ...] = ("grad_cam", "fem", "add", "top", "center"),
    backbone: str = "efficientnet_lite0",
    weights: str | Path | None = None,
    split: str | None = None,
    fold: tuple[int, int] | None = None,
    images: int = 200,
) -> None:
    """Fits densities of fixations to the maps of methods: a curve, a blur and a center bias for each.

    Args:
        directory: the folder of the prepared data set.
        out: a .json file to write, for `mlfem score --smooth fit --fits FILE`.
        methods: names with their options, as `mlfem score` takes them.
        backbone: see `mlfem backbones`.
        weights: a weight file, or "random". Default: the packaged weights.
        split: name of a split, or a slice of one. Default: the only split.
        fold: (i, k) leaves fold i of k out, which can then be scored. Default: all images are used.
        images: most to fit on, spread over those that there are.

    Raises:
        ValueError: an unknown method or network, or images without a fixation.
        FileExistsError: `out` is there, and no earlier fit wrote it.
    """
    if images < 1:
        raise ValueError(f"images: expected at least 1, got {images}")
    refuse_foreign(out.parent, [out.name])
    source, network = open_dataset(directory, split), load_backbone(backbone, weights)
    index = scan(source)
    usable = np.flatnonzero(index.fixation_counts > 0)
    if fold is not None:
        usable = np.setdiff1d(usable, fold_positions(index.groups, fold))
    if len(usable) == 0:
        raise ValueError(f"{directory}: expected images with fixations to fit on, got none")
    chosen = usable[np.unique(np.linspace(0, len(usable) - 1, min(images, len(usable))).round().astype(int))]
    parsed = tuple(own for name in methods if isinstance(own := parse_method(name), Method))
    if len(parsed) < len(methods):
        raise ValueError(f"methods: expected methods of ours, got {methods}")
    example_format = ExampleFormat(network.photo_size, index.max_fixations)
    batches = list(read_batches(source, example_format, batch_size=16, positions=chosen))
    keep = np.concatenate([batch.mask for batch in batches])
    photos, points, mask = (
        np.concatenate([getattr(batch, name) for batch in batches])[keep]
        for name in ("images", "fixations", "fixation_mask")
    )
    maps = np.stack(list(map_batches(network, photos, _Maps(parsed))))
    points = (points + 0.5) / 2 - 0.5
    fits = {name: fit_density(maps[:, i], points, mask) for i, name in enumerate(methods)}
    height = network.input_size[0]
    stored = {
        name: dataclasses.asdict(found) | {"sigma_px": 2 * found.sigma_px / height} for name, found in fits.items()
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    keep_record(out.parent)
    with replacing(out) as file:
        file.write(json.dumps({"backbone": network.name, "images": len(chosen), "fold": fold, "fits": stored}).encode())
    print(printable(f"{out}: {len(fits)} methods fitted on {len(chosen)} images"))


def read_fits(path: Path, methods: tuple[str, ...]) -> tuple[DensityFit, ...]:
    """The fits of methods, from what `fit` wrote; their `sigma_px` is a share of the frame's height.

    Raises:
        OSError: there is no such file.
        ValueError: it is no such file, or lacks a method.
    """
    path.stat()  # FileNotFoundError
    try:
        stored = dict(read_json(path)["fits"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected what `mlfem fit` wrote, got something else ({error})") from error
    missing = [name for name in methods if name not in stored]
    if missing:
        raise ValueError(f"{path}: expected fits of {', '.join(methods)}, got none of {', '.join(missing)}")
    with naming(path):
        return tuple(DensityFit.of(stored[name]) for name in methods)
