"""What both trainers have in common: their options, and the way from a task to the best state of its run."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import grain
import jax
import numpy as np
import tyro
from jax.sharding import NamedSharding
from jax.tree_util import Partial

from mlfem_jax.data import fold_positions, split_positions
from mlfem_jax.files import refuse_foreign, writing
from mlfem_jax.parallel import Processes, is_first
from mlfem_jax.runs import check_claim, claim, holds_run, provenance
from mlfem_jax.training.checkpoints import restore_checkpoint
from mlfem_jax.training.loop import Step, train
from mlfem_jax.training.progress import loss_line, shown_scores, training_progress
from mlfem_jax.training.run import RUN_FILES, read_metrics
from mlfem_jax.training.step import TrainState


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The options of every training.

    Attributes:
        directory: the folder of the prepared data set.
        out: the folder of the run.
        backbone: name of the network, see `mlfem backbones`.
        split: name of a split of the data set. Default: the only one.
        validation: share of the images, by hashed id, that only choose the best checkpoint; 0 keeps the last one.
        fold: (i, k) holds out fold i of k, counted from 0: it is not trained on. `mlfem score --fold i k` scores it.
        every: steps from one validation and checkpoint to the next. Default: an epoch.
        resume: go on with the run in `out`, if there is one of the same config.
        processes: for a run on several hosts.
    """

    free: ClassVar[tuple[str, ...]] = ("out", "resume", "processes")
    """Fields that do not decide the result."""

    directory: tyro.conf.Positional[Path]
    out: Path
    backbone: str = "efficientnet_lite0"
    split: str | None = None
    validation: float = 0.1
    fold: tuple[int, int] | None = None
    every: int | None = None
    resume: bool = True
    processes: Annotated[Processes, tyro.conf.arg(prefix_name=False)] = dataclasses.field(default_factory=Processes)

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the field.
        """
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation: expected a share in [0, 1), got {self.validation}")
        if self.every is not None and self.every < 1:
            raise ValueError(f"every: expected at least 1 step, got {self.every}")

    def settings(self) -> dict[str, Any]:
        """What decides the result, as `json` can write it."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name not in self.free}
        return json.loads(json.dumps(fields, default=str))


@dataclasses.dataclass(frozen=True)
class Task:
    """A training, ready to run.

    Attributes:
        initial: what makes the state before the first step; see `make_state`.
        step: from `make_step`.
        batches: of training, shuffled, of all epochs.
        steps: in all.
        per_epoch: steps in an epoch.
        batch_size: images in a step, of all devices together.
        sharding: from `batch_sharding`.
        validate: from the state to scores by name.
        score: the one of which more is better, which chooses the best checkpoint; "step" keeps the newest.
    """

    initial: Partial
    step: Step
    batches: grain.IterDataset
    steps: int
    per_epoch: int
    batch_size: int
    sharding: tuple[NamedSharding, NamedSharding]
    validate: Callable[[TrainState], Mapping[str, float]]
    score: str


def writing_run(config: RunConfig) -> contextlib.AbstractContextManager[None]:
    """Keeps other runs out of the folder for the length of a block; the processes of one run share it."""
    return writing(config.out, process_index=jax.process_index() if jax.process_count() > 1 else None)


def check_out(config: RunConfig, results: Sequence[str]) -> None:
    """Nothing, where the folder of the run may be used; before any work, and without leaving anything in it.

    Args:
        config: whose `out` it is.
        results: names in it that the training writes at its end.

    Raises:
        FileExistsError: it holds a run, and `resume` is False; or no run, but others' files of a run's names.
        ValueError: it holds a run of other settings; names them.
    """
    check_claim(config.out, config.settings(), resume=config.resume)
    if is_first() and not holds_run(config.out):
        refuse_foreign(config.out, (*RUN_FILES, *results))


def training_parts(config: RunConfig, ids: Sequence[str], usable: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Positions of the images that train, and of those that choose the best checkpoint.

    Args:
        config: whose `fold` is held out.
        ids: of all images; of windows of recordings see `mlfem_jax.data.Index.groups`.
        usable: which of them can be trained on. Default: all.

    Raises:
        ValueError: a part is empty; the fold is none.
    """
    inside = np.ones(len(ids), bool) if usable is None else usable.copy()
    if config.fold is not None:
        inside[fold_positions(ids, config.fold)] = False
    # Another salt than the folds': else the images for validation would all be of one fold.
    shares = {"train": 1 - config.validation, "validation": config.validation}
    parts = split_positions(ids, shares, salt="validation")
    parts = {name: positions[inside[positions]] for name, positions in parts.items()}
    for name, positions in parts.items():
        if len(positions) == 0 and (name == "train" or config.validation):
            raise ValueError(
                f"validation: expected a share that leaves images to {name}, got {config.validation} of {inside.sum()}"
            )
    return parts


def run(config: RunConfig, task: Task) -> tuple[TrainState, dict[str, Any]] | None:
    """Trains, or goes on, in the folder of the run, which is claimed now that all inputs are checked.

    Returns:
        The state of the best checkpoint and its line of `metrics.jsonl`; None for other processes than the first.
    """
    if is_first():
        claim(config.out, config.settings(), resume=config.resume)
    with training_progress() as bar:
        row = bar.add_task("training", total=task.steps, shown="")

        def on_scores(found: Mapping[str, Any]) -> None:
            bar.update(row, completed=found["step"])
            bar.console.print(f"step {found['step']}: {shown_scores(found)}", highlight=False)

        train(
            config.out,
            task.initial,
            iter(task.batches),
            task.step,
            steps=task.steps,
            every=config.every or task.per_epoch,
            validate=task.validate,
            score=task.score,
            sharding=task.sharding,
            on_loss=loss_line(bar, row, task.batch_size),
            on_scores=on_scores,
        )
    if not is_first():
        return None
    best = max(reversed(read_metrics(config.out)), key=lambda line: line[task.score])  # of equals the newest
    return restore_checkpoint(config.out / "checkpoints", best["step"], jax.eval_shape(task.initial)), best


def notes(config: RunConfig, data: str, validation: Mapping[str, Any]) -> dict[str, Any]:
    """What is written beside a trained network. No folders: they say nothing to whoever gets it."""
    settings = {
        name: value for name, value in config.settings().items() if name not in ("directory", "also", "weights")
    }
    return {"data": data, "settings": settings, "validation": dict(validation), **provenance()}
