"""Trains the learned fusion on human gaze, over a frozen backbone.

    mlfem train fusion DIR --out out/unet
    mlfem train fusion DIR --out out/net --architecture net

DIR is what `mlfem prepare` wrote. The folder `--out` gets checkpoints, metrics.jsonl, curves.png, and the best network
as fusion.safetensors with fusion.json, which `explain(method="net", weights=...)` takes. Called again, it goes on where
it stopped. How to start it on several hosts is written in `mlfem_jax/parallel/processes.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress

from mlfem_jax.backbones import Backbone, load_backbone, select_layers
from mlfem_jax.data import (
    ExampleFormat,
    batches_per_epoch,
    fold_positions,
    open_dataset,
    read_examples,
    scan,
    split_positions,
)
from mlfem_jax.fusion import FusionNet, MapRecipe, TrainedFusion, default_maps, image_maps, save_fusion
from mlfem_jax.parallel import Processes, batch_sharding, is_first, put_batch, start
from mlfem_jax.runs import claim, provenance
from mlfem_jax.training.checkpoints import restore_checkpoint
from mlfem_jax.training.fusion.reading import cached_maps, map_example
from mlfem_jax.training.fusion.step import (
    Recipe,
    TrainState,
    cached_inputs,
    initial_state,
    make_scores,
    make_step,
    score_all,
)
from mlfem_jax.training.loop import train
from mlfem_jax.training.progress import loss_line, training_progress
from mlfem_jax.training.run import plot_curves, read_metrics


@dataclasses.dataclass(frozen=True)
class Config:
    """The training of a learned fusion.

    Attributes:
        directory: the folder of the prepared data set.
        out: the folder of the run.
        backbone: name of the frozen network.
        weights: a file of its weights. Default: the packaged ones.
        split: name of a split of the data set. Default: the only one.
        architecture: "unet", or "net", the paper's.
        ks: values of k; default those of the architecture, nine for "unet", 2 for "net".
        layers: names of the layers. Default: all.
        shrink: the maps are made at 1 / `shrink` of the resolution; default 8 for "unet", 1 for "net", as the paper.
        position: "unet" also reads the distance from the centre.
        maps: "cached", computed once into a file; or "computed" at every step (no disk, a forward pass for each image).
        cache: the folder of that file. Default: `maps` in `directory`.
        validation: share of the images, by hashed id, that only choose the best checkpoint.
        fold: (i, k) holds out fold i of k, counted from 0: it is not trained on. `eval.score --fold i k` scores it.
        sigma_px: of the GFDMs, in pixels of the photographs. Default: the data set's own.
        every: steps from one validation and checkpoint to the next. Default: an epoch.
        resume: go on with the run in `out`, if there is one of the same config.
        recipe: how to train.
        processes: for a run on several hosts.
    """

    directory: tyro.conf.Positional[Path]
    out: Path
    backbone: str = "efficientnet_lite0"
    weights: Path | None = None
    split: str | None = None
    architecture: Literal["unet", "net"] = "unet"
    ks: tuple[float, ...] | None = None
    layers: tuple[str, ...] | None = None
    shrink: int | None = None
    position: bool = False
    maps: Literal["cached", "computed"] = "cached"
    cache: Path | None = None
    validation: float = 0.1
    fold: tuple[int, int] | None = None
    sigma_px: float | None = None
    every: int | None = None
    resume: bool = True
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    processes: Annotated[Processes, tyro.conf.arg(prefix_name=False)] = dataclasses.field(default_factory=Processes)

    def settings(self) -> dict[str, Any]:
        """What decides the result, as `json` can write it."""
        fields = dataclasses.asdict(self)
        kept = {name: value for name, value in fields.items() if name not in ("out", "resume", "cache", "processes")}
        return {name: str(value) if isinstance(value, Path) else value for name, value in kept.items()}


@dataclasses.dataclass(frozen=True)
class Task:
    """What the loop needs to know of the data.

    Attributes:
        data: name and version of the data set.
        net: the network to train.
        maps: which maps it reads.
        shape: (height, width) of the backbone's input.
        example: from a position to an example.
        inputs: from a batch to its maps.
        parts: positions of "train" and "validation".
    """

    data: str
    net: FusionNet
    maps: MapRecipe
    shape: tuple[int, int]
    example: Callable[[int], dict[str, np.ndarray]]
    inputs: Callable[[Mapping[str, Any]], jax.Array]
    parts: Mapping[str, np.ndarray]


def train_fusion(config: Annotated[Config, tyro.conf.arg(name="")]) -> None:
    """Trains a learned fusion on human gaze, over a frozen backbone, and writes the best network.

    Args:
        config: the training.

    Raises:
        ValueError: what cannot be trained so, by name.
        OSError: a file that is not there, or not readable.
    """
    start(config.processes)
    claim(config.out, config.settings(), resume=config.resume)
    backbone = load_backbone(config.backbone, config.weights)
    with training_progress() as bar:
        task = prepare(config, backbone, bar)
        state = run(config, task, bar)
    if is_first():
        write(config, task, backbone, state)


def write(config: Config, task: Task, backbone: Backbone, state: TrainState) -> None:
    """Writes and prints the best network."""
    best = max(read_metrics(config.out), key=lambda row: row["pcc"])
    state, _ = restore_checkpoint(config.out / "checkpoints", best["step"], state)
    validation = {name: best[name] for name in ("step", "pcc", "sim")}
    # No folders: they say nothing to whoever gets the file.
    settings = {name: value for name, value in config.settings().items() if name not in ("directory", "weights")}
    notes = {"data": task.data, "settings": settings, "validation": validation, **provenance()}
    trained = TrainedFusion(task.net, state.average, backbone.name, task.maps.layers, task.maps.ks, notes)
    save_fusion(config.out / "fusion.safetensors", trained)
    plot_curves(config.out)
    Console().print(f"{config.out}: best at step {best['step']}, PCC {best['pcc']:.4f}, SIM {best['sim']:.4f}")


def fusion_shape(config: Config, layers: tuple[str, ...]) -> tuple[FusionNet, MapRecipe]:
    """The network and the maps that it reads, with the architecture's defaults filled in."""
    maps = default_maps(config.architecture, select_layers(layers, config.layers), config.ks, config.shrink)
    return FusionNet(maps.channels, config.architecture, maps.shrink, position=config.position), maps


def prepare(config: Config, backbone: Backbone, bar: Progress) -> Task:
    """Data set, split, network, and the maps where they are cached."""
    source = open_dataset(config.directory, config.split)
    index = scan(source)
    sigma_px = config.sigma_px or source.dataset_info.metadata["sigma_px"]
    format = ExampleFormat(backbone.input_size, max_fixations=index.max_fixations)
    net, maps = fusion_shape(config, backbone.layers)
    parts = training_parts(config, index.ids)
    for name, positions in parts.items():
        if len(positions) == 0:
            raise ValueError(
                f"validation: a share of {config.validation} of {len(source)} images leaves none to {name}"
            )
    stacks, inputs = None, functools.partial(computed_inputs, backbone, maps)
    if config.maps == "cached":
        task = bar.add_task("importance maps", total=len(source), shown="")
        folder = config.cache or config.directory / "maps"
        advance = functools.partial(bar.advance, task)
        stacks = cached_maps(backbone, source, format, maps, folder, on_batch=advance)
        inputs = cached_inputs
        bar.update(task, completed=len(source))

    def example(position: int) -> dict[str, np.ndarray]:
        return map_example(source[position], None if stacks is None else stacks[position], format, sigma_px)

    return Task(source.dataset_info.full_name, net, maps, format.shape, example, inputs, parts)


def training_parts(config: Config, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Positions of the images that train, and of those that choose the best checkpoint."""
    shares = {"train": 1 - config.validation, "validation": config.validation}
    if config.fold is None:
        return split_positions(ids, shares)
    held_out = fold_positions(ids, config.fold)
    # Another salt than the folds': else the images for validation would all be of one fold.
    parts = split_positions(ids, shares, salt="validation")
    return {name: np.setdiff1d(positions, held_out) for name, positions in parts.items()}


def run(config: Config, task: Task, bar: Progress) -> Any:
    """The state after the last step."""
    recipe = config.recipe
    sharding = batch_sharding(recipe.batch_size)
    per_epoch = batches_per_epoch(len(task.parts["train"]), recipe.batch_size)
    steps = per_epoch * recipe.epochs
    share, count = recipe.batch_size // jax.process_count(), jax.process_count()
    own = {"batch_size": share, "process_index": jax.process_index(), "process_count": count}
    read = functools.partial(read_examples, task.example, **own)
    scores = make_scores(task.net, task.shape, task.inputs, sharding[1])
    row = bar.add_task("training", total=steps, shown="")

    def validate(state: Any) -> dict[str, float]:
        batches = (put_batch(batch, sharding[0]) for batch in read(task.parts["validation"]))
        found = score_all(scores(state.average, batch) for batch in batches)
        return {name: float(np.nanmean(values)) for name, values in found.items()}

    def on_scores(found: Mapping[str, float]) -> None:
        scored = f"loss {found['loss']:.4f}, PCC {found['pcc']:.4f}, SIM {found['sim']:.4f}"
        bar.console.print(f"step {found['step']}: {scored}", highlight=False)

    return train(
        config.out,
        initial_state(task.net, recipe, steps),
        iter(read(task.parts["train"], seed=recipe.seed, epochs=recipe.epochs)),
        make_step(task.net, recipe, steps, task.shape, task.inputs),
        steps=steps,
        every=config.every or per_epoch,
        validate=validate,
        score="pcc",
        sharding=sharding,
        on_loss=loss_line(bar, row, recipe.batch_size),
        on_scores=on_scores,
    )


def computed_inputs(backbone: Backbone, maps: MapRecipe, batch: Mapping[str, Any]) -> jax.Array:
    """Shrunk maps from the photographs of a batch."""
    return image_maps(backbone, batch["images"], maps)
