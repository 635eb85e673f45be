"""FEM with learned channel weights against human gaze: cross-validation, and from one data set to another.

    python -m eval.experiments.channel_folds data/osie --transfer data/crowd --out out/channels --frame 384 512
    python -m eval.experiments.channel_folds data/crowd --transfer data/osie --out out/channels_crowd --frame 384 512

The folders are what `mlfem prepare` wrote. Prints mean PCC and SIM with 95 % bootstrap intervals over images, on the
images that a network was not trained on, and on all images of the other data set, averaged over the models of the
folds. A map is compared in the frame that the network reads, in the photograph's proportions. Beside them is a control:
the PCC of each prediction with the gaze on another image, which a network would share in that predicts where people
look in any photograph. What is finished is kept in `--out`, and a second call goes on from there.
"""

import dataclasses
import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from eval.experiments.fusion_tables import Scores, gathered, kept, others, report
from mlfem_jax.backbones import load_backbone
from mlfem_jax.cli import run_command
from mlfem_jax.data import batches_per_epoch, k_folds, read_examples
from mlfem_jax.fusion import FusionNet, predict
from mlfem_jax.metrics import pcc, similarity
from mlfem_jax.training import fusion, real_examples
from mlfem_jax.training.fusion import Data, Recipe, gfdms, initial_state, make_step, open_data

Architecture: TypeAlias = Literal["channels", "linear", "unet"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Cross-validation of fusions that weigh channels.

    Attributes:
        directory: the prepared data set that is trained on.
        transfer: another one, to score the same models on.
        out: folder of results.
        cache: folder of the strong positions, which the trainer keeps too.
        backbone: name of the frozen network.
        weights: a weight file, or "random": what is learned over a network that has seen nothing is the floor of what
            a fusion explains. Default: the packaged weights.
        frame: height and width whose number of pixels each photograph gets. Default: the network's input size.
        architectures: which to train.
        folds: number of folds, by hashed id.
        only: train and score these folds alone. Default: all.
        inner: score on a fifth of the images that train the fold, which do not train then: to choose a recipe by.
        seeds: of the training.
        layers: see `mlfem train fusion`.
        ks: see `mlfem train fusion`.
        shrink: see `mlfem train fusion`.
        vectors: see `mlfem train fusion`.
        signed: see `mlfem train fusion`.
        recipe: how the networks are trained.
    """

    directory: tyro.conf.Positional[Path]
    out: Path
    transfer: Path | None = None
    cache: Path | None = None
    backbone: str = "efficientnet_lite0"
    weights: str | None = None
    frame: tuple[int, int] | None = None
    architectures: tuple[Architecture, ...] = ("channels", "linear")
    folds: int = 5
    only: tuple[int, ...] | None = None
    inner: bool = False
    seeds: tuple[int, ...] = (0,)
    layers: tuple[str, ...] | None = None
    ks: tuple[float, ...] | None = None
    shrink: int | None = None
    vectors: int | None = None
    signed: bool | None = None
    recipe: Recipe = dataclasses.field(default_factory=Recipe)


METRICS = ("pcc", "sim", "other")


def main(config: Config) -> None:
    """Prints the tables, and writes them with every image's scores."""
    paths = [path for path in (config.directory, config.transfer) if path is not None]
    tables: list[dict[str, Scores]] = [{} for _ in paths]
    controls: list[list[str]] = [[] for _ in paths]
    for architecture in config.architectures:
        sets = opened(config, architecture, paths)
        for seed in config.seeds:
            label = f"{architecture}, seed {seed}"
            for place, row in enumerate(trained(config, sets, seed)):
                tables[place][label] = row
                controls[place].append(f"{label}: PCC with the gaze on another image {np.nanmean(row['other']):.3f}")
    for place, (path, table) in enumerate(zip(paths, tables, strict=True)):
        home = f"{config.directory.name}, {'inner validation' if config.inner else f'{config.folds} folds'}"
        report(config.out, f"{home} to {path.name}" if place else home, table)
        Console().print("\n".join(controls[place]), highlight=False)


def opened(config: Config, architecture: Architecture, paths: Iterable[Path]) -> list[Data]:
    """The data sets, with what the frozen network shows of their images."""
    same = {name: getattr(config, name) for name in ("backbone", "frame", "layers", "ks", "shrink", "recipe")}
    if architecture != "unet":
        same |= {"signed": config.signed, "vectors": config.vectors if architecture == "channels" else None}
    backbone = load_backbone(config.backbone, config.weights)
    return [
        open_data(fusion.Config(path, config.out, architecture=architecture, cache=config.cache, **same), backbone)
        for path in paths
    ]


def trained(config: Config, sets: list[Data], seed: int) -> list[Scores]:
    """Scores of the networks of all folds, on each data set."""
    home, recipe = sets[0], dataclasses.replace(config.recipe, seed=seed)
    folds = k_folds(home.ids, config.folds)
    numbers = range(config.folds) if config.only is None else config.only
    steps_of = functools.cache(functools.partial(make_step, home.net, recipe))
    score = jax.jit(functools.partial(scores, home.net))
    found: list[list[Scores]] = [[] for _ in sets]
    for number in numbers:
        training, held = others(folds, folds[number]), folds[number]
        if config.inner:
            held, training = training[::5], np.delete(training, slice(None, None, 5))
        mark = f"{home.net.architecture}_{fingerprint(config, home, recipe)}_seed{seed}_fold{number}"

        def compute(training: np.ndarray = training, held: np.ndarray = held, mark: str = mark) -> Scores:
            started = time.perf_counter()
            params = fitted(home, recipe, training, steps_of)
            rows = {"seconds": np.array(time.perf_counter() - started)}
            for data in sets:
                seen = held if data is home else np.arange(len(data.ids))
                batches = read(data, seen, batch_size=20)
                rows |= {f"{data.name} {name}": value for name, value in
                         real_examples(score(params, batch) for batch in batches).items()}  # fmt: skip
            means = ", ".join(f"{name} {np.nanmean(value):.4f}" for name, value in rows.items())
            Console().print(f"{mark}: {means}", highlight=False, soft_wrap=True)
            return rows

        rows = kept(config.out / "fits" / f"{mark}.npz", compute)
        for each, data in zip(found, sets, strict=True):
            each.append({name: rows[f"{data.name} {name}"] for name in METRICS})
    return [gathered(each, inside=data is home, metrics=METRICS) for each, data in zip(found, sets, strict=True)]


def fitted(data: Data, recipe: Recipe, training: np.ndarray, step_of: Callable[[int], Callable]) -> Any:
    """The averaged parameters after training on some images."""
    steps = batches_per_epoch(len(training), recipe.batch_size) * recipe.passes(data.net)
    state, step = initial_state(data.net, recipe, steps), step_of(steps)
    order = {"batch_size": recipe.batch_size, "seed": recipe.seed, "epochs": recipe.passes(data.net)}
    for batch in read(data, training, **order):
        state, _ = step(state, batch)
    return jax.block_until_ready(state.beside)


def read(data: Data, positions: np.ndarray, **order: Any) -> Any:
    """Batches of examples, each of one frame."""
    return read_examples(data.example, positions, kinds=[data.frames[p] for p in positions], **order)


def scores(net: FusionNet, params: Any, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    """PCC and SIM of each prediction with its own GFDM, and its PCC with that of the next image of the batch."""
    frame = fusion.frame_of(batch)
    stacks = fusion.stacks(net, params, batch["maps"], frame)
    maps = jax.vmap(lambda stack: predict(net, params, stack, frame))(stacks)
    truth = gfdms(batch, frame)
    real = batch["mask"] & jnp.roll(batch["mask"], -1)
    other = jnp.where(real, jax.vmap(pcc)(maps, jnp.roll(truth, -1, axis=0)), jnp.nan)
    return {"pcc": jax.vmap(pcc)(maps, truth), "sim": jax.vmap(similarity)(maps, truth), "other": other,
            "mask": batch["mask"]}  # fmt: skip


def fingerprint(config: Config, data: Data, recipe: Recipe) -> str:
    """Short text that differs where what is trained does."""
    settings = [dataclasses.asdict(data.net), dataclasses.asdict(data.maps), dataclasses.asdict(recipe), config.frame,
                config.inner, *([config.weights] if config.weights else [])]  # fmt: skip
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.channel_folds", lambda: main(tyro.cli(Config))))
