"""Trains a classifier on the classes of a data set: the network that is explained afterwards.

    mlfem train classifier DIR --out out/crowd
    mlfem train classifier DIR --out out/scratch --backbone resnet50 --weights random --recipe.dtype bfloat16
    mlfem explain PHOTO --weights out/crowd
    mlfem score DIR SCORES --weights out/crowd

DIR is what `mlfem prepare` wrote. The folder `--out` gets checkpoints, metrics.jsonl, curves.png, and the best network
in `weights/`, with the names of the classes; `load_backbone(name, weights=...)` takes either folder. Called again, it
goes on where it stopped. How to start it on several hosts is written in `mlfem_jax/parallel/processes.py`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mlfem_jax.backbones import Classifier, initial_weights, make_classifier, save_classifier
from mlfem_jax.data import ExampleFormat, fold_positions, open_dataset, read_batches, scan, split_positions
from mlfem_jax.gaze import FitRule
from mlfem_jax.parallel import Processes, batch_sharding, is_first, put_batch, start
from mlfem_jax.runs import claim, provenance
from mlfem_jax.training.checkpoints import restore_checkpoint
from mlfem_jax.training.classifier.recipe import Loss, Recipe, choose_loss
from mlfem_jax.training.classifier.step import TrainState, batch_fields, evaluate, initial_state, make_scores, make_step
from mlfem_jax.training.loop import train
from mlfem_jax.training.progress import loss_line, training_progress
from mlfem_jax.training.run import plot_curves, read_metrics


@dataclasses.dataclass(frozen=True)
class Config:
    """The training of a classifier.

    Attributes:
        directory: the folder of the prepared data set.
        out: the folder of the run.
        backbone: see `mlfem backbones`.
        weights: a weight file to start from, or "random". Default: the packaged weights.
        split: name of a split of the data set. Default: the only one.
        fold: (i, k) holds out fold i of k, counted from 0: it is not trained on. `eval.score --fold i k` scores it.
        validation: share of the images, by hashed id, that only choose the best checkpoint; 0 keeps the last one.
        loss: "softmax" for one class an image, "sigmoid" for several. Default: what the labels say.
        rule: how a photograph gets to the network's input size.
        every: steps from one validation and checkpoint to the next. Default: an epoch.
        resume: go on with the run in `out`, if there is one of the same config.
        workers: processes that read images; 0 is a thread.
        in_memory: keep the resized photographs, 0.2 MB each at 256x256, after the first epoch; not with workers.
        recipe: how to train.
        processes: for a run on several hosts.
    """

    directory: tyro.conf.Positional[Path]
    out: Path
    backbone: str = "efficientnet_lite0"
    weights: str | None = None
    split: str | None = None
    fold: tuple[int, int] | None = None
    validation: float = 0.1
    loss: Literal["softmax", "sigmoid"] | None = None
    rule: FitRule = "stretch"
    every: int | None = None
    resume: bool = True
    workers: int = 0
    in_memory: bool = False
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    processes: Annotated[Processes, tyro.conf.arg(prefix_name=False)] = dataclasses.field(default_factory=Processes)

    def settings(self) -> dict[str, Any]:
        """What decides the result, as `json` can write it."""
        free = ("out", "resume", "workers", "in_memory", "processes")
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name not in free}
        return {name: str(value) if isinstance(value, Path) else value for name, value in fields.items()}


@dataclasses.dataclass(frozen=True)
class Task:
    """What the loop needs to know of the data.

    Attributes:
        data: name and version of the data set.
        source: its records.
        class_names: in the order of the labels.
        loss: that fits them.
        parts: positions of "train" and "validation".
        max_fixations: of an image.
        unlabelled: number of images that are left out.
    """

    data: str
    source: Any
    class_names: tuple[str, ...]
    loss: Loss
    parts: Mapping[str, np.ndarray]
    max_fixations: int
    unlabelled: int


def train_classifier(config: Annotated[Config, tyro.conf.arg(name="")]) -> None:
    """Trains a classifier on the classes of a data set, and writes the best network.

    Args:
        config: the training.

    Raises:
        ValueError: what cannot be trained so, by name.
        OSError: a file that is not there, or not readable.
    """
    start(config.processes)
    claim(config.out, config.settings(), resume=config.resume)
    task = prepare(config)
    classifier = make_classifier(config.backbone, len(task.class_names), momentum=config.recipe.norm_momentum)
    with training_progress() as bar:
        state = run(config, task, classifier, bar)
    if is_first():
        write(config, task, classifier, state)


def prepare(config: Config) -> Task:
    """Data set, loss and split."""
    source = open_dataset(config.directory, config.split)
    index = scan(source)
    info = source.dataset_info
    names = tuple(info.metadata["class_names"])
    if not names:
        raise ValueError(f"{config.directory}: the data set {info.name} has no classes to learn")
    labelled = np.array([len(labels) > 0 for labels in index.labels])
    loss = config.loss or choose_loss(index.labels)
    if loss == "softmax" and max(map(len, index.labels)) > 1:
        raise ValueError("loss: expected 'sigmoid', some images have several classes, got 'softmax'")
    inside = labelled.copy()
    if config.fold is not None:
        inside[fold_positions(index.ids, config.fold)] = False
    # Another salt than the folds': else the images for validation would all be of one fold.
    shares = {"train": 1 - config.validation, "validation": config.validation}
    parts = split_positions(index.ids, shares, salt="validation")
    parts = {name: positions[inside[positions]] for name, positions in parts.items()}
    if len(parts["train"]) == 0 or (config.validation and len(parts["validation"]) == 0):
        raise ValueError(f"validation: a share of {config.validation} of {inside.sum()} images leaves a part empty")
    return Task(info.full_name, source, names, loss, parts, index.max_fixations, int((~labelled).sum()))


def read(config: Config, task: Task, part: str, shape: tuple[int, int], **options: Any) -> Any:
    """Batches of a part of the data set, see `batch_fields`."""
    format = ExampleFormat(shape, task.max_fixations, rule=config.rule, classes=len(task.class_names))
    reading = read_batches(
        task.source,
        format,
        positions=task.parts[part],
        workers=config.workers,
        in_memory=config.in_memory,
        **options,
    )
    return reading.map(batch_fields)


def run(config: Config, task: Task, classifier: Classifier, bar: Progress) -> TrainState:
    """The state after the last step."""
    recipe = config.recipe
    sharding = batch_sharding(recipe.batch_size)
    share = recipe.batch_size // jax.process_count()
    per_epoch = len(task.parts["train"]) // recipe.batch_size
    steps = per_epoch * recipe.epochs
    order = {"seed": recipe.seed, "epochs": recipe.epochs, "remainder": "drop"}
    training = read(config, task, "train", frame(classifier, recipe), batch_size=share, **order)
    scores = make_scores(classifier, recipe, task.loss, sharding[1])
    row = bar.add_task("training", total=steps, shown="")

    def validate(state: TrainState) -> Mapping[str, float]:
        if not config.validation:
            return {}
        batches = read(config, task, "validation", classifier.input_size, batch_size=share)
        return evaluate((scores(state, put_batch(batch, sharding[0])) for batch in batches), task.loss)[0]

    def on_scores(found: Mapping[str, float]) -> None:
        bar.console.print(f"step {found['step']}: {shown_scores(found)}", highlight=False)

    weights = initial_weights(classifier, weights=config.weights, seed=recipe.seed)
    return train(
        config.out,
        initial_state(classifier, recipe, steps, *weights),
        iter(training),
        make_step(classifier, recipe, steps, task.loss),
        steps=steps,
        every=config.every or per_epoch,
        validate=validate,
        score=score_name(config, task),
        sharding=sharding,
        on_loss=loss_line(bar, row, recipe.batch_size),
        on_scores=on_scores,
    )


def write(config: Config, task: Task, classifier: Classifier, state: TrainState) -> None:
    """Writes and prints the best network: of the best checkpoint, or of the last where there is no validation."""
    best = max(read_metrics(config.out), key=lambda row: row[score_name(config, task)])
    state, _ = restore_checkpoint(config.out / "checkpoints", best["step"], state)
    found: dict[str, Any] = {name: value for name, value in best.items() if name != "losses"}
    if config.validation:
        over_batch, on_each = batch_sharding(config.recipe.batch_size, jax.local_devices())
        scores = make_scores(classifier, config.recipe, task.loss, on_each)
        alone = {"batch_size": config.recipe.batch_size, "process_index": 0, "process_count": 1}
        batches = read(config, task, "validation", classifier.input_size, **alone)
        state = put_batch(state, on_each)
        _, confusion = evaluate((scores(state, put_batch(batch, over_batch)) for batch in batches), task.loss)
        if confusion is not None:
            Console().print(confusion_table(confusion, task.class_names))
            found["confusion"] = confusion.tolist()
    # No folders: they say nothing to whoever gets the network.
    settings = {name: value for name, value in config.settings().items() if name not in ("directory", "weights")}
    notes = {"data": task.data, "loss": task.loss, "settings": settings, "validation": found, **provenance()}
    save_classifier(
        config.out / "weights", classifier, state.params, state.statistics, labels=task.class_names, notes=notes
    )
    plot_curves(config.out)
    images = ", ".join(f"{len(positions)} {name}" for name, positions in task.parts.items())
    left = f", {task.unlabelled} without a label left out" if task.unlabelled else ""
    Console().print(f"{config.out}: step {best['step']}, {shown_scores(found)} (images: {images}{left})")


def frame(classifier: Classifier, recipe: Recipe) -> tuple[int, int]:
    """Size in pixels that training photographs are read at: where they are cropped, a seventh larger than the input."""
    height, width = classifier.input_size
    return (height, width) if recipe.augmentation.area == 1 else (height * 8 // 7, width * 8 // 7)


def score_name(config: Config, task: Task) -> str:
    """What chooses the best checkpoint."""
    if not config.validation:
        return "step"
    return "top_1" if task.loss == "softmax" else "map"


def shown_scores(found: Mapping[str, Any]) -> str:
    """A line for people."""
    numbers = {name: value for name, value in found.items() if isinstance(value, float)}
    return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in numbers.items())


def confusion_table(confusion: np.ndarray, names: Sequence[str]) -> Table:
    """The confusion matrix, for the terminal."""
    table = Table("class / taken for", *names, title="validation: number of images")
    for name, row in zip(names, confusion, strict=True):
        table.add_row(name, *map(str, row))
    return table
