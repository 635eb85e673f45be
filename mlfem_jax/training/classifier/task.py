"""Trains a classifier on the classes of a data set: the network that is explained afterwards.

    mlfem train classifier DIR --out out/crowd
    mlfem train classifier DIR --out out/scratch --backbone resnet50 --weights random --recipe.dtype bfloat16
    mlfem explain PHOTO --weights out/crowd
    mlfem score DIR SCORES --weights out/crowd
    mlfem train classifier RECORDINGS --out out/series --backbone small_cnn

DIR is what `mlfem prepare` wrote. The folder `--out` gets checkpoints, metrics.jsonl, curves.png, and the best network
in `weights/`, with the names of the classes; `load_backbone(name, weights=...)` takes either folder. Called again, it
goes on where it stopped. How to start it on several hosts is written in `mlfem_jax/parallel/processes.py`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax
import numpy as np
import tyro
from jax.tree_util import Partial
from rich.console import Console
from rich.table import Table

from mlfem_jax.backbones import SMALL, TOWERS, Classifier, initial_weights, make_classifier, save_classifier
from mlfem_jax.data import ExampleFormat, Index, RecordingFormat, Workers, open_dataset, read_batches, scan
from mlfem_jax.gaze import FitRule
from mlfem_jax.parallel import batch_sharding, on_host, put_batch, put_state, start, state_sharding
from mlfem_jax.training import task as common
from mlfem_jax.training.classifier.recipe import Loss, Recipe, choose_loss
from mlfem_jax.training.classifier.step import batch_fields, evaluate, initial_state, make_scores, make_step
from mlfem_jax.training.progress import shown_scores
from mlfem_jax.training.run import plot_curves
from mlfem_jax.training.step import TrainState
from mlfem_jax.training.task import RunConfig, Task, training_parts


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """The training of a classifier.

    Attributes:
        weights: a weight file to start from, or "random". Default: the packaged weights.
        loss: "softmax" for one class an image, "sigmoid" for several. Default: what the labels say.
        rule: how a photograph gets to the network's input size.
        workers: processes that read images; 0 is threads of this one. auto is none on a CPU, and elsewhere one for each
            thousand images read in the run, as far as there are cores.
        shards: devices that each large array of the state, of a million numbers, is split over: for large heads.
        in_memory: keep the resized photographs, 0.2 MB each at 256x256, after the first epoch; not with workers.
        recipe: how to train.
    """

    free: ClassVar[tuple[str, ...]] = (*RunConfig.free, "workers", "in_memory", "shards")

    weights: str | None = None
    loss: Literal["softmax", "sigmoid"] | None = None
    rule: FitRule = "stretch"
    workers: Workers = "auto"
    in_memory: bool = False
    shards: int = 1
    recipe: Recipe = dataclasses.field(default_factory=Recipe)


@dataclasses.dataclass(frozen=True)
class Data:
    """What is learned, and from what.

    Attributes:
        name: and version of the data set.
        source: its records.
        class_names: in the order of the labels.
        loss: that fits them.
        parts: positions of "train" and "validation".
        max_fixations: of an image.
        unlabeled: number of images that are left out.
        recordings: how they are read, where they are no photographs.
    """

    name: str
    source: Any
    class_names: tuple[str, ...]
    loss: Loss
    parts: Mapping[str, np.ndarray]
    max_fixations: int
    unlabeled: int
    recordings: RecordingFormat | None = None


def train_classifier(config: Annotated[Config, tyro.conf.arg(name="")]) -> None:
    """Trains a classifier on the classes of a data set, and writes the best network.

    Args:
        config: the training.

    Raises:
        ValueError: what cannot be trained so, by name; nothing is left in `out`.
        OSError: a file that is not there, or not readable.
    """
    start(config.processes)
    with common.writing_run(config):
        common.check_out(config, ("weights",))
        data = open_data(config)
        shape = data.recordings.shape if data.recordings else None
        options = {"momentum": config.recipe.norm_momentum, "input_shape": shape}
        classifier = make_classifier(config.backbone, len(data.class_names), **options)
        best = common.run(config, prepare(config, data, classifier))
        if best is not None:
            write(config, data, classifier, *best)


def open_data(config: Config) -> Data:
    """Data set, loss and split.

    Raises:
        ValueError: there is nothing to learn, or nothing left to learn it from.
    """
    source = open_dataset(config.directory, config.split)
    index = scan(source)
    info = source.dataset_info
    names = tuple(info.metadata["class_names"])
    if len(names) < 2:
        raise ValueError(f"{config.directory}: expected at least 2 classes to tell apart, got {', '.join(names) or 0}")
    labeled = np.array([len(labels) > 0 for labels in index.labels])
    loss = config.loss or choose_loss(index.labels)
    if loss == "softmax" and max(map(len, index.labels)) > 1:
        raise ValueError("loss: expected 'sigmoid', some images have several classes, got 'softmax'")
    parts = training_parts(config, index.groups, labeled)
    learned = {names[label] for position in parts["train"] for label in index.labels[position]}
    if len(learned) < 2:
        raise ValueError(
            f"{config.directory}: expected at least 2 classes among the images that train, got {', '.join(learned)}"
        )
    unlabeled = int((~labeled).sum())
    recordings = _recordings(config, info.metadata, index, len(names))
    return Data(info.full_name, source, names, loss, parts, index.max_fixations, unlabeled, recordings)


def _recordings(config: Config, metadata: Mapping[str, Any], index: Index, classes: int) -> RecordingFormat | None:
    """How recordings are read: one channel where they have no axis behind those of their events.

    Raises:
        ValueError: an option that makes sense for photographs, or for a network that was trained before.
    """
    form = metadata.get("recording")
    if form is None:
        return None
    recipe = config.recipe
    for name, given, default in (
        ("rule", config.rule, "stretch"),
        ("freeze", recipe.freeze, False),
        ("norm_momentum", recipe.norm_momentum, None),
    ):
        if given != default:
            raise ValueError(
                f"{name}: expected {default} for recordings, whose network begins from nothing, got {given}"
            )
    axes, shape = index.sizes.shape[1], tuple(form["shape"])
    shape = shape if len(shape) > axes else (*shape, 1)
    return RecordingFormat(shape, index.max_fixations, axes, classes=classes, dtype=form["dtype"])


def read(config: Config, data: Data, part: str, shape: tuple[int, ...], **options: Any) -> Any:
    """Batches of a part of the data set, see `batch_fields`; `shape` is that of photographs."""
    classes = len(data.class_names)
    reading = read_batches(
        data.source,
        data.recordings or ExampleFormat((shape[0], shape[1]), data.max_fixations, rule=config.rule, classes=classes),
        positions=data.parts[part],
        workers=config.workers,
        in_memory=config.in_memory,
        **options,
    )
    return reading.map(batch_fields)


def prepare(config: Config, data: Data, classifier: Classifier) -> Task:
    """The training, ready to run: first weights, batches and evaluation."""
    recipe = config.recipe
    sharding = over_batch, on_each = batch_sharding(recipe.batch_size, shards=config.shards)
    share = recipe.batch_size // jax.process_count()
    per_epoch = len(data.parts["train"]) // recipe.batch_size
    steps = per_epoch * recipe.epochs
    order = {"seed": recipe.seed, "epochs": recipe.epochs, "remainder": "drop"}
    batches = read(config, data, "train", frame(classifier, recipe), batch_size=share, **order)
    scores = make_scores(classifier, recipe, data.loss, on_each)

    def validate(state: TrainState) -> Mapping[str, float]:
        if not config.validation:
            return {}
        held = read(config, data, "validation", classifier.input_size, batch_size=share)
        return evaluate((scores(state, put_batch(batch, over_batch)) for batch in held), data.loss)[0]

    initial = first_state(config, classifier, steps)
    step = make_step(classifier, recipe, steps, data.loss, on_each)
    score = ("top_1" if data.loss == "softmax" else "map") if config.validation else "step"
    return Task(initial, step, batches, steps, per_epoch, recipe.batch_size, sharding, validate, score)


def first_state(config: Config, classifier: Classifier, steps: int) -> Partial:
    """What makes the state before the first step, see `make_state`: weights drawn there, or bound to it as arrays."""

    def state(*weights: Any) -> TrainState:
        return initial_state(classifier, config.recipe, steps, *weights)

    def weights() -> tuple[Any, Any]:
        return initial_weights(classifier, weights=config.weights, seed=config.recipe.seed)

    drawn = config.weights is None if classifier.name == SMALL else config.weights == "random"
    if drawn and classifier.name not in TOWERS:  # those are drawn by NumPy
        return Partial(lambda: state(*weights()))
    with on_host():
        return Partial(state, *jax.device_get(weights()))


def write(config: Config, data: Data, classifier: Classifier, state: TrainState, best: Mapping[str, Any]) -> None:
    """Writes and prints the best network: of the best checkpoint, or of the last where there is no validation."""
    found: dict[str, Any] = {name: value for name, value in best.items() if name != "losses"}
    if config.validation:
        devices = jax.local_devices()
        shards = math.gcd(config.shards, len(devices))
        over_batch, on_each = batch_sharding(config.recipe.batch_size, devices, shards=shards)
        scores = make_scores(classifier, config.recipe, data.loss, on_each)
        alone = {"batch_size": config.recipe.batch_size, "process_index": 0, "process_count": 1}
        batches = read(config, data, "validation", classifier.input_size, **alone)
        state = dataclasses.replace(state, optimizer=())
        state = put_state(state, state_sharding(state, on_each))
        _, confusion = evaluate((scores(state, put_batch(batch, over_batch)) for batch in batches), data.loss)
        if confusion is not None:
            Console().print(confusion_table(confusion, data.class_names))
            found["confusion"] = confusion.tolist()
    notes = common.notes(config, data.name, found) | {"loss": data.loss}
    save_classifier(
        config.out / "weights", classifier, state.params, state.beside, labels=data.class_names, notes=notes
    )
    plot_curves(config.out)
    images = ", ".join(f"{len(positions)} {name}" for name, positions in data.parts.items())
    left = f", {data.unlabeled} without a label left out" if data.unlabeled else ""
    Console().print(f"{config.out}: step {best['step']}, {shown_scores(found)} (images: {images}{left})")


def frame(classifier: Classifier, recipe: Recipe) -> tuple[int, ...]:
    """Size in pixels that training photographs are read at: where they are cropped, a seventh larger than the input."""
    if not classifier.photos:
        return classifier.input_size
    height, width = classifier.photo_size
    return (height, width) if recipe.augmentation.area == 1 else (height * 8 // 7, width * 8 // 7)


def confusion_table(confusion: np.ndarray, names: Sequence[str]) -> Table:
    """The confusion matrix, for the terminal."""
    table = Table("class / taken for", *names, title="validation: number of images")
    for name, row in zip(names, confusion, strict=True):
        table.add_row(name, *map(str, row))
    return table
