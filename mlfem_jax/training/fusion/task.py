"""Trains the learned fusion on human gaze, over a frozen backbone.

    mlfem train fusion DIR --out out/unet
    mlfem train fusion DIR --out out/net --architecture net

DIR is what `mlfem prepare` wrote. The folder `--out` gets checkpoints, metrics.jsonl, curves.png, and the best network
as fusion.safetensors with fusion.json, which `explain(method="net", weights=...)` takes. Called again, it goes on where
it stopped. How to start it on several hosts is written in `mlfem_jax/parallel/processes.py`.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
import numpy as np
import tyro
from rich.console import Console

from mlfem_jax.backbones import Backbone, load_backbone, select_layers
from mlfem_jax.data import ExampleFormat, batches_per_epoch, looked_at, open_dataset, read_examples, scan
from mlfem_jax.fusion import FusionNet, MapRecipe, TrainedFusion, default_maps, image_maps, make_net, save_fusion
from mlfem_jax.gaze import check_sigma
from mlfem_jax.parallel import batch_sharding, put_batch, start
from mlfem_jax.training import task as common
from mlfem_jax.training.fusion.reading import cached_maps, map_example
from mlfem_jax.training.fusion.step import Recipe, cached_inputs, initial_state, make_scores, make_step
from mlfem_jax.training.progress import shown_scores, training_progress
from mlfem_jax.training.run import plot_curves
from mlfem_jax.training.step import TrainState, real_examples
from mlfem_jax.training.task import RunConfig, Task, training_parts


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """The training of a learned fusion.

    Attributes:
        weights: a file of the backbone's weights. Default: the packaged ones.
        architecture: "unet", or "net", the paper's.
        ks: values of k; default those of the architecture, nine for "unet", 2 for "net".
        layers: names of the layers. Default: all.
        shrink: the maps are made at 1 / `shrink` of the resolution; default 8 for "unet", 1 for "net", as the paper.
        position: "unet" also reads the distance from the center.
        maps: "cached", computed once into a file; or "computed" at every step (no disk, a forward pass for each image).
        cache: the folder of that file. Default: `maps` in `directory`.
        sigma_px: of the GFDMs, in pixels of the photographs. Default: the data set's own.
        recipe: how to train.
    """

    free: ClassVar[tuple[str, ...]] = (*RunConfig.free, "cache")

    weights: Path | None = None
    architecture: Literal["unet", "net"] = "unet"
    ks: tuple[float, ...] | None = None
    layers: tuple[str, ...] | None = None
    shrink: int | None = None
    position: bool = False
    maps: Literal["cached", "computed"] = "cached"
    cache: Path | None = None
    sigma_px: float | None = None
    recipe: Recipe = dataclasses.field(default_factory=Recipe)

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the field.
        """
        super().__post_init__()
        if self.sigma_px is not None:
            check_sigma(self.sigma_px)
        if self.shrink is not None and self.shrink < 1:
            raise ValueError(f"shrink: expected at least 1, got {self.shrink}")


@dataclasses.dataclass(frozen=True)
class Data:
    """What is learned, and from what.

    Attributes:
        name: and version of the data set.
        net: the network to train.
        maps: which maps it reads.
        shape: (height, width) of the backbone's input.
        example: from a position to an example.
        inputs: from a batch to its maps.
        parts: positions of "train" and "validation".
    """

    name: str
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
        ValueError: what cannot be trained so, by name; nothing is left in `out`.
        OSError: a file that is not there, or not readable.
    """
    start(config.processes)
    with common.writing_run(config):
        common.check_out(config, ("fusion.safetensors", "fusion.json"))
        backbone = load_backbone(config.backbone, config.weights)
        data = open_data(config, backbone)
        best = common.run(config, prepare(config, data))
        if best is not None:
            write(config, data, backbone, *best)


def fusion_shape(config: Config, layers: tuple[str, ...]) -> tuple[FusionNet, MapRecipe]:
    """The network and the maps that it reads, with the architecture's defaults filled in."""
    maps = default_maps(config.architecture, select_layers(layers, config.layers), config.ks, config.shrink)
    fields = {"position": True} if config.position else {}  # which "net" does not have
    return make_net(config.architecture, channels=maps.channels, shrink=maps.shrink, **fields), maps


def open_data(config: Config, backbone: Backbone) -> Data:
    """Data set, split, network, and the maps where they are cached."""
    batch_sharding(config.recipe.batch_size)  # what it refuses, it refuses before the maps are made
    source = open_dataset(config.directory, config.split)
    index = scan(source)
    sigma_px = config.sigma_px or source.dataset_info.metadata["sigma_px"]
    example_format = ExampleFormat(backbone.input_size, max_fixations=index.max_fixations)
    net, maps = fusion_shape(config, backbone.layers)
    looked = looked_at(index, np.arange(len(source)))
    if len(looked) < len(source):
        print(f"{len(source) - len(looked)} images without fixations are left out", file=sys.stderr)
    parts = training_parts(config, index.ids, index.fixation_counts > 0)
    stacks, inputs = None, functools.partial(computed_inputs, backbone, maps)
    if config.maps == "cached":
        folder, inputs = config.cache or config.directory / "maps", cached_inputs
        with training_progress() as bar:
            row = bar.add_task("importance maps", total=len(source), shown="")
            on_batch = functools.partial(bar.advance, row)
            stacks = cached_maps(backbone, source, example_format, maps, folder, on_batch=on_batch)
            bar.update(row, completed=len(source))

    def example(position: int) -> dict[str, np.ndarray]:
        return map_example(source[position], None if stacks is None else stacks[position], example_format, sigma_px)

    return Data(source.dataset_info.full_name, net, maps, example_format.shape, example, inputs, parts)


def prepare(config: Config, data: Data) -> Task:
    """The training, ready to run: first parameters, batches and evaluation."""
    recipe = config.recipe
    over_batch, on_each = batch_sharding(recipe.batch_size)
    per_epoch = batches_per_epoch(len(data.parts["train"]), recipe.batch_size)
    steps = per_epoch * recipe.epochs
    share, count = recipe.batch_size // jax.process_count(), jax.process_count()
    own = {"batch_size": share, "process_index": jax.process_index(), "process_count": count}
    read = functools.partial(read_examples, data.example, **own)
    scores = make_scores(data.net, data.shape, data.inputs, on_each)

    def validate(state: TrainState) -> Mapping[str, float]:
        if not config.validation:
            return {}
        batches = (put_batch(batch, over_batch) for batch in read(data.parts["validation"]))
        found = real_examples(scores(state.beside, batch) for batch in batches)
        return {name: float(np.nanmean(values)) for name, values in found.items()}

    batches = read(data.parts["train"], seed=recipe.seed, epochs=recipe.epochs)
    step = make_step(data.net, recipe, steps, data.shape, data.inputs)
    state = initial_state(data.net, recipe, steps)
    score = "pcc" if config.validation else "step"
    return Task(state, step, batches, steps, per_epoch, recipe.batch_size, validate, score)


def write(config: Config, data: Data, backbone: Backbone, state: TrainState, best: Mapping[str, Any]) -> None:
    """Writes and prints the best network."""
    notes = common.notes(config, data.name, {name: best[name] for name in ("step", "pcc", "sim") if name in best})
    trained = TrainedFusion(data.net, state.beside, backbone.name, data.maps.layers, data.maps.ks, notes)
    save_fusion(config.out / "fusion.safetensors", trained)
    plot_curves(config.out)
    Console().print(f"{config.out}: best at step {best['step']}, {shown_scores(best)}")


def computed_inputs(backbone: Backbone, maps: MapRecipe, batch: Mapping[str, Any]) -> jax.Array:
    """Shrunk maps from the photographs of a batch."""
    return image_maps(backbone, batch["images"], maps)
