"""Fusions of importance maps against human gaze: cross-validation, and from one data set to another.

    python -m eval.experiments.fusion_folds OSIE --transfer CROWD --out out/folds
    python -m eval.experiments.fusion_folds CROWD --transfer OSIE --out out/folds_crowd

The folders are what `mlfem prepare` wrote. Prints mean PCC and SIM with 95 % bootstrap intervals over images, of the
algebraic fusions (k and alpha chosen on the training folds alone), of a center prior (the mean GFDM of the training
folds), and of the two trained networks, on the images that each was not trained on; then the same on all images of the
other data set, averaged over the models of the five folds. A map is compared at the size of the network's input, as
`explain` gives it. What is finished is kept in `--out`, and a second call goes on from there.
"""

import dataclasses
import functools
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from eval.experiments.fusion_tables import (
    ALPHAS,
    KS,
    Scores,
    algebra_rows,
    gathered,
    kept,
    others,
    report,
    report_choices,
)
from mlfem_jax.backbones import Backbone, load_backbone
from mlfem_jax.cli import run_command
from mlfem_jax.data import ExampleFormat, k_folds, open_dataset, read_examples, scan
from mlfem_jax.fusion import FusionNet, MapRecipe, default_maps, fuse, make_net, map_stack
from mlfem_jax.training import real_examples
from mlfem_jax.training.fusion import (
    Kept,
    Recipe,
    cached_inputs,
    cached_maps,
    fit,
    gfdms,
    make_scores,
    map_example,
    score_maps,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Cross-validation of fusions against gaze.

    Attributes:
        directory: the prepared data set that is trained on.
        transfer: another one, to score the same models on.
        out: folder of results and caches.
        backbone: name of the frozen network.
        folds: number of folds, by hashed id.
        seeds: of the training of `repeated`; the other networks take the first.
        repeated: networks trained once for each seed.
        networks: which to train.
        net_shrink: the maps of the paper's NET are made at 1 / `net_shrink` of the resolution; 1 is the paper's.
        recipe: how the networks are trained.
    """

    directory: tyro.conf.Positional[Path]
    out: Path
    transfer: Path | None = None
    backbone: str = "efficientnet_lite0"
    folds: int = 5
    seeds: tuple[int, ...] = (0, 1, 2)
    repeated: tuple[str, ...] = ("unet",)
    networks: tuple[Literal["net", "unet", "unet + position"], ...] = ("net", "unet")
    net_shrink: int = 4
    recipe: Recipe = dataclasses.field(default_factory=Recipe)


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, opened.

    Attributes:
        name: of the data set.
        source: its records.
        ids: of its images.
        example_format: the frame that photographs are resized into.
        sigma_px: of its GFDMs, in pixels of the photographs.
    """

    name: str
    source: Any
    ids: tuple[str, ...]
    example_format: ExampleFormat
    sigma_px: float

    def read(self, maps: Kept | np.ndarray | None, positions: np.ndarray | None = None, **options: Any) -> Any:
        """Batches of examples."""

        def example(position: int) -> dict[str, np.ndarray]:
            kept = None if maps is None else maps[position]
            return map_example(self.source[position], kept, self.example_format, self.sigma_px)

        return read_examples(example, np.arange(len(self.ids)) if positions is None else positions, **options)


def main(config: Config) -> None:
    """Prints the tables, and writes them with every image's scores."""
    backbone = load_backbone(config.backbone)
    sets = [open_data(path, backbone) for path in (config.directory, config.transfer) if path is not None]
    grids = [kept(config.out / f"algebra_{data.name}.npz", lambda d=data: algebra(backbone, d)) for data in sets]
    home = sets[0]
    folds = k_folds(home.ids, config.folds)
    tables = [algebra_rows(folds, grids[0], grids[0], inside=True)]
    tables += [algebra_rows(folds, grids[0], grid, inside=False) for grid in grids[1:]]
    for position, values in enumerate(center_scores(home, folds, sets)):
        tables[position]["center prior"] = values
    for name in config.networks:
        for seed in config.seeds if name in config.repeated else config.seeds[:1]:
            label = name if name not in config.repeated else f"{name}, seed {seed}"
            for position, values in enumerate(trained(config, backbone, home, folds, sets, name, seed)):
                tables[position][label] = values
    for data, table in zip(sets, tables, strict=True):
        title = f"{home.name}, {config.folds} folds" if data is home else f"{home.name} to {data.name}"
        report(config.out, title, table)
    report_choices(config.out, folds, grids[0])


def open_data(directory: Path, backbone: Backbone) -> Data:
    """The data set of a folder."""
    source = open_dataset(directory)
    index = scan(source)
    example_format = ExampleFormat(backbone.photo_size, max_fixations=index.max_fixations)
    name = source.dataset_info.name
    return Data(name, source, index.ids, example_format, source.dataset_info.metadata["sigma_px"])


def algebra(backbone: Backbone, data: Data) -> Scores:
    """PCC and SIM (images, values of k, fusions) of every algebraic fusion."""
    shape = data.example_format.shape

    def fused(activations: Any, k: float) -> jax.Array:
        stack = map_stack(activations, shape, layers=backbone.layers, ks=(k,), signs=backbone.signs)
        weights = jnp.array(ALPHAS)
        weighted = [jax.vmap(lambda a, o=o: fuse(stack, operator=o, alpha=a))(weights) for o in ("add", "top")]
        plain = jnp.stack([fuse(stack, operator=operator) for operator in ("fem", "max", "mean")])
        return jnp.concatenate([plain, *weighted])

    @jax.jit
    def score(batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        _, activations = backbone.apply(backbone.params, backbone.preprocess(batch["images"]))
        truth = gfdms(batch, shape)
        of_k = []
        for k in KS:
            maps = jax.lax.map(lambda example, k=k: fused(example, k), activations)
            of_k.append(jax.vmap(jax.vmap(score_maps, (0, None)))(maps, truth))
        return {**jax.tree.map(lambda *values: jnp.stack(values, axis=1), *of_k), "mask": batch["mask"]}

    return real_examples(map(score, data.read(None, batch_size=8)))


def center_scores(home: Data, folds: tuple[np.ndarray, ...], sets: list[Data]) -> list[Scores]:
    """Scores of the mean GFDM of the training folds, on each data set."""
    shape = home.example_format.shape
    truths = {data.name: list(all_gfdms(data)) for data in sets}
    score = jax.jit(jax.vmap(score_maps, (None, 0)))
    rows = []
    for data in sets:
        found: list[dict[str, Any]] = []
        for fold in folds:
            prior = np.mean([truths[home.name][i] for i in others(folds, fold)], axis=0).reshape(shape)
            seen = fold if data is home else np.arange(len(data.ids))
            found.append(score(prior, np.stack([truths[data.name][i] for i in seen])))
        rows.append(gathered(found, inside=data is home))
    return rows


def all_gfdms(data: Data) -> Iterable[np.ndarray]:
    """The GFDM of every image."""
    densities = jax.jit(functools.partial(gfdms, shape=data.example_format.shape))
    blank = np.zeros((len(data.ids), 1, 1, 1), np.float16)
    for batch in data.read(blank, batch_size=50):
        yield from np.asarray(densities(batch))[batch["mask"]]


def trained(
    config: Config,
    backbone: Backbone,
    home: Data,
    folds: tuple[np.ndarray, ...],
    sets: list[Data],
    name: str,
    seed: int,
) -> list[Scores]:
    """Scores of a network trained on the other folds, on each data set."""
    recipe = dataclasses.replace(config.recipe, seed=seed)
    architecture = "net" if name == "net" else "unet"
    wanted = default_maps(architecture, backbone.layers, shrink=config.net_shrink if name == "net" else None)
    fields = {"position": True} if name.endswith("position") else {}
    net = make_net(architecture, channels=wanted.channels, shrink=wanted.shrink, **fields)
    stacks = [cached_maps(backbone, data.source, data.example_format, wanted, config.out / "maps") for data in sets]
    results: list[list[Scores]] = [[] for _ in sets]
    for number, fold in enumerate(folds):
        mark = f"{name.replace(' + ', '_')}_{fingerprint(recipe, net, wanted)}_seed{seed}_fold{number}"

        def compute(fold: np.ndarray = fold, mark: str = mark) -> Scores:
            started = time.perf_counter()
            training = others(folds, fold)
            reading = home.read(stacks[0], training, batch_size=recipe.batch_size, seed=seed, epochs=recipe.passes(net))
            state = fit(net, recipe, reading, examples=len(training), shape=home.example_format.shape)
            seconds = time.perf_counter() - started
            score = make_scores(net, home.example_format.shape, cached_inputs)
            flat = {"seconds": np.array(seconds)}
            for data, maps in zip(sets, stacks, strict=True):
                seen = fold if data is home else None
                read = data.read(maps, seen, batch_size=25)
                found = real_examples(score(state.beside, batch) for batch in read)
                flat |= {f"{data.name}_{metric}": values for metric, values in found.items()}
            Console().print(f"{mark}: {seconds:.0f} s, PCC {flat[f'{home.name}_pcc'].mean():.4f}", highlight=False)
            return flat

        flat = kept(config.out / "fits" / f"{mark}.npz", compute)
        for values, data in zip(results, sets, strict=True):
            values.append({metric: flat[f"{data.name}_{metric}"] for metric in ("pcc", "sim")})
    return [gathered(values, inside=data is home) for values, data in zip(results, sets, strict=True)]


def fingerprint(*settings: Recipe | FusionNet | MapRecipe) -> str:
    """Short text that differs where the settings do."""
    return hashlib.sha256(json.dumps([dataclasses.asdict(one) for one in settings]).encode()).hexdigest()[:8]


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.fusion_folds", lambda: main(tyro.cli(Config))))
