"""Trains the learned fusion on human gaze, over a frozen backbone.

    mlfem train fusion DIR --out out/unet
    mlfem train fusion DIR --out out/net --architecture net
    mlfem train fusion DIR --out out/channels --architecture channels --frame 384 512

DIR is what `mlfem prepare` wrote. The folder `--out` gets checkpoints, metrics.jsonl, curves.png, and the best network
as fusion.safetensors with fusion.json, which `explain(method="net", weights=...)` takes. Called again, it goes on where
it stopped. How to start it on several hosts is written in `mlfem_jax/parallel/processes.py`.
"""

import dataclasses
import functools
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
import numpy as np
import tyro
from rich.console import Console

from mlfem_jax.backbones import Backbone, forward_pass, load_backbone, select_layers
from mlfem_jax.data import (
    ExampleFormat,
    Source,
    batches_per_epoch,
    image_frames,
    looked_at,
    open_dataset,
    read_examples,
    scan,
)
from mlfem_jax.fusion import (
    FusionNet,
    MapRecipe,
    TrainedFusion,
    default_layers,
    default_maps,
    make_net,
    reads_channels,
    save_fusion,
)
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
        architecture: "unet"; "net", the paper's; "channels", FEM with learned channel weights and a U-Net; or "linear",
            the same summed, without a network behind the weights.
        ks: values of k; default those of the architecture, nine for "unet", 2 for "net", 1 and 2 for the others.
        layers: names of the layers. Default: all; for "channels" and "linear" some of the later ones.
        shrink: the maps are made at 1 / `shrink` of the resolution; default 8 for "unet", 1 for "net", as the paper, 16
            for the others.
        vectors: weight vectors of each layer and k of "channels"; default 4.
        signed: weights of "channels" and "linear" may be negative.
        position: "unet" also reads the distance from the center.
        frame: height and width whose number of pixels each photograph gets, in its own proportions, so that none is
            squeezed. Default: the backbone's input size, whatever the photograph's proportions.
        maps: "cached", computed once into a file; or "computed" at every step (no disk, a forward pass for each image).
        cache: the folder of that file. Default: `maps` in `directory`.
        sigma_px: of the GFDMs, in pixels of the photographs. Default: the data set's own.
        recipe: how to train.
    """

    free: ClassVar[tuple[str, ...]] = (*RunConfig.free, "cache")

    weights: Path | None = None
    architecture: Literal["unet", "net", "channels", "linear"] = "unet"
    ks: tuple[float, ...] | None = None
    layers: tuple[str, ...] | None = None
    shrink: int | None = None
    vectors: int | None = None
    signed: bool = False
    position: bool = False
    frame: tuple[int, int] | None = None
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
        if self.frame is not None and min(self.frame) < 1:
            raise ValueError(f"frame: expected a height and a width of at least 1, got {self.frame}")


@dataclasses.dataclass(frozen=True)
class Data:
    """What is learned, and from what.

    Attributes:
        name: and version of the data set.
        ids: of the images.
        net: the network to train.
        maps: which maps it reads.
        frames: (height, width) of the frame of each image.
        example: from a position to an example.
        inputs: from a batch to what `FusionNet.stack` takes of each example.
        parts: positions of "train" and "validation".
    """

    name: str
    ids: tuple[str, ...]
    net: FusionNet
    maps: MapRecipe
    frames: tuple[tuple[int, int], ...]
    example: Callable[[int], dict[str, np.ndarray]]
    inputs: Callable[[Mapping[str, Any]], Any]
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


def fusion_shape(config: Config, backbone: Backbone) -> tuple[FusionNet, MapRecipe]:
    """The network and what it reads, with the architecture's defaults filled in."""
    chosen = default_layers(config.architecture, backbone.layers)
    layers = chosen if config.layers is None else select_layers(backbone.layers, config.layers)
    maps = default_maps(config.architecture, layers, config.ks, config.shrink)
    fields: dict[str, Any] = {"position": True} if config.position else {}  # which other architectures refuse
    fields |= {"signed": True} if config.signed else {}
    fields |= {} if config.vectors is None else {"vectors": config.vectors}
    if reads_channels(config.architecture):
        fields["depths"] = layer_depths(backbone, layers)
    return make_net(config.architecture, channels=maps.channels, shrink=maps.shrink, **fields), maps


def layer_depths(backbone: Backbone, layers: Sequence[str]) -> tuple[int, ...]:
    """The number of channels of each layer."""
    image = jax.ShapeDtypeStruct((1, *backbone.input_size, 3), np.uint8)
    shapes = jax.eval_shape(lambda backbone, image: forward_pass(backbone, image).activations, backbone, image)
    return tuple(shapes[name].shape[-1] for name in layers)


def open_data(config: Config, backbone: Backbone) -> Data:
    """Data set, split, network, and the maps where they are cached."""
    batch_sharding(config.recipe.batch_size)  # what it refuses, it refuses before the maps are made
    source = open_dataset(config.directory, config.split)
    index = scan(source)
    sigma_px = config.sigma_px or source.dataset_info.metadata["sigma_px"]
    frames = image_frames(index.sizes, config.frame, backbone.input_size)
    formats = {frame: ExampleFormat(frame, max_fixations=index.max_fixations) for frame in dict.fromkeys(frames)}
    net, maps = fusion_shape(config, backbone)
    looked = looked_at(index, np.arange(len(source)))
    if len(looked) < len(source):
        print(f"{len(source) - len(looked)} images without fixations are left out", file=sys.stderr)
    parts = training_parts(config, index.ids, index.fixation_counts > 0)
    kept, inputs = {}, functools.partial(computed_inputs, backbone, maps)
    if config.maps == "cached":
        folder, inputs = config.cache or config.directory / "maps", cached_inputs
        kept = kept_of_all(backbone, source, frames, formats, maps, folder)

    def example(position: int) -> dict[str, np.ndarray]:
        given = kept[position]() if kept else None
        return map_example(source[position], given, formats[frames[position]], sigma_px)

    return Data(source.dataset_info.full_name, index.ids, net, maps, frames, example, inputs, parts)


def kept_of_all(
    backbone: Backbone,
    source: Source,
    frames: Sequence[tuple[int, int]],
    formats: Mapping[tuple[int, int], ExampleFormat],
    maps: MapRecipe,
    folder: Path,
) -> dict[int, Callable[[], Any]]:
    """For each position what reads what is kept of it; there is a file for each frame."""
    kept: dict[int, Callable[[], Any]] = {}
    with training_progress() as bar:
        row = bar.add_task("importance maps", total=len(source), shown="")
        for frame, example_format in formats.items():
            positions = np.flatnonzero([other == frame for other in frames])
            options = {"positions": positions, "on_batch": functools.partial(bar.advance, row)}
            file = cached_maps(backbone, source, example_format, maps, folder, **options)
            kept |= {int(p): functools.partial(file.__getitem__, place) for place, p in enumerate(positions)}
        bar.update(row, completed=len(source))
    return kept


def prepare(config: Config, data: Data) -> Task:
    """The training, ready to run: first parameters, batches and evaluation."""
    recipe = config.recipe
    over_batch, on_each = batch_sharding(recipe.batch_size)
    of_frame = Counter(data.frames[position] for position in data.parts["train"])
    per_epoch = sum(batches_per_epoch(count, recipe.batch_size) for count in of_frame.values())
    steps = per_epoch * recipe.passes(data.net)
    share, count = recipe.batch_size // jax.process_count(), jax.process_count()
    own = {"batch_size": share, "process_index": jax.process_index(), "process_count": count}
    scores = make_scores(data.net, inputs=data.inputs, on_each=on_each)

    def read(part: str, **order: Any) -> Any:
        positions = data.parts[part]
        return read_examples(data.example, positions, kinds=[data.frames[p] for p in positions], **own, **order)

    def validate(state: TrainState) -> Mapping[str, float]:
        if not config.validation:
            return {}
        batches = (put_batch(batch, over_batch) for batch in read("validation"))
        found = real_examples(scores(state.beside, batch) for batch in batches)
        return {name: float(np.nanmean(values)) for name, values in found.items()}

    batches = read("train", seed=recipe.seed, epochs=recipe.passes(data.net))
    step = make_step(data.net, recipe, steps, inputs=data.inputs)
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


def computed_inputs(backbone: Backbone, maps: MapRecipe, batch: Mapping[str, Any]) -> Any:
    """What the recipe reads of the photographs of a batch."""
    return maps.read(backbone, batch["images"])
