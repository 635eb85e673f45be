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
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from jax.tree_util import Partial
from rich.console import Console

from mlfem_jax.backbones import Backbone, load_backbone
from mlfem_jax.data import batches_per_epoch, read_examples
from mlfem_jax.faithfulness import soft_abpc
from mlfem_jax.fusion import TrainedFusion, save_fusion
from mlfem_jax.parallel import batch_sharding, put_batch, start
from mlfem_jax.training import task as common
from mlfem_jax.training.fusion.config import Config
from mlfem_jax.training.fusion.data import Data, open_data
from mlfem_jax.training.fusion.step import initial_state, make_scores, make_step
from mlfem_jax.training.progress import shown_scores
from mlfem_jax.training.run import plot_curves
from mlfem_jax.training.step import TrainState, real_examples
from mlfem_jax.training.task import Task


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
        best = common.run(config, prepare(config, data, backbone))
        if best is not None:
            write(config, data, backbone, *best)


def prepare(config: Config, data: Data, backbone: Backbone) -> Task:
    """The training, ready to run: first parameters, batches and evaluation."""
    recipe = config.recipe if backbone.photos else dataclasses.replace(config.recipe, flips=False)
    sharding = over_batch, on_each = batch_sharding(recipe.batch_size)
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
    if recipe.faithful and backbone.embeds:
        raise ValueError(
            f"faithful: expected a network of classes, got {backbone.name!r}, whose outputs are embeddings"
        )
    faithful = functools.partial(soft_abpc, backbone, output=backbone.output) if recipe.faithful else None
    step = make_step(data.net, recipe, steps, inputs=data.inputs, faithful=faithful)
    initial = Partial(lambda: initial_state(data.net, recipe, steps))
    score = "pcc" if config.validation and not recipe.faithful else "step"
    return Task(initial, step, batches, steps, per_epoch, recipe.batch_size, sharding, validate, score)


def write(config: Config, data: Data, backbone: Backbone, state: TrainState, best: Mapping[str, Any]) -> None:
    """Writes and prints the best network."""
    notes = common.notes(config, data.name, {name: best[name] for name in ("step", "pcc", "sim") if name in best})
    signs = tuple(backbone.sign(layer) for layer in data.maps.layers)
    trained = TrainedFusion(data.net, state.beside, backbone.name, data.maps.layers, data.maps.ks, notes, signs)
    save_fusion(config.out / "fusion.safetensors", trained)
    plot_curves(config.out)
    Console().print(f"{config.out}: best at step {best['step']}, {shown_scores(best)}")
