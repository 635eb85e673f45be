"""Classifiers trained, explained and scored in cross-validation: correct against wrong images, and clutter.

    mlfem prepare crowd --from RELEASE --to CROWD
    python -m eval.experiments.classifier_folds CROWD --out out/classifier_folds

CROWD is any prepared data set with one class an image, and gaze. For each seed and fold a network is trained on the
other folds, and classifies and explains the images of this one; so every image is scored once a seed, by a network that
has not seen it. Prints and writes top-1, mean average precision and the confusion matrix of each seed (results.md,
classification.csv, confusion.csv), the scores of correct and of wrong images (correct.csv, correct.png), and those of
levels of clutter (clutter.csv, clutter.png). What is finished is kept in `--out`, and a second call goes on from there.
"""

import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from eval.experiments.classifier_tables import Held, write_results
from mlfem_jax.backbones import Backbone, load_backbone
from mlfem_jax.cli import run_command
from mlfem_jax.compilation import keep_compiled
from mlfem_jax.data import k_folds, scan
from mlfem_jax.files import replacing
from mlfem_jax.runs import claim
from mlfem_jax.scores import Config as ScoreConfig, clutter_counts, correctness, load, score_records
from mlfem_jax.training.classifier import Augmentation, Recipe, task as classifier


def short_recipe() -> Recipe:
    """Full fine-tuning on few images in little time.

    Photographs are not cropped: a crop would change the number of faces, and so the class. Batch norm's running
    statistics move by a tenth a step, since there are only some 30 steps.

    On Crowd (160 images a fold) the loss on the training images falls from 1.39 to 0.5 in them, near the 0.35 that
    label smoothing leaves, and a training with its scoring takes a minute on two quiet CPU cores.
    """
    return Recipe(epochs=3, norm_momentum=0.1, augmentation=Augmentation(area=1.0))


@dataclasses.dataclass(frozen=True)
class Config:
    """Cross-validation of classifiers and of their explanations.

    Attributes:
        directory: the prepared data set.
        out: folder of the networks, the scores and the results.
        backbone: see `mlfem backbones`.
        weights: a weight file to start from, or "random". Default: the packaged weights.
        folds: number of folds, by hashed id.
        seeds: of the training.
        methods: as for `mlfem score`.
        metrics: as for `mlfem score`; PCC and SIM are shown, all are written.
        resamples: of the bootstrap.
        recipe: how to train; its seed is replaced.
    """

    directory: tyro.conf.Positional[Path]
    out: Path
    backbone: str = "efficientnet_lite0"
    weights: str | None = None
    folds: int = 5
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[str, ...] = ("fem", "add", "top", "mean", "grad_cam", "center")
    metrics: tuple[str, ...] = ("pcc", "similarity", "nss", "auc_judd")
    resamples: int = 9999
    recipe: Recipe = dataclasses.field(default_factory=short_recipe)

    def training(self, seed: int, fold: int) -> classifier.Config:
        """The training that holds a fold out; it has no validation, and keeps its last step."""
        return classifier.Config(
            directory=self.directory,
            out=self.out / f"seed{seed}_fold{fold}",
            backbone=self.backbone,
            weights=self.weights,
            fold=(fold, self.folds),
            validation=0.0,
            in_memory=True,
            recipe=dataclasses.replace(self.recipe, seed=seed),
        )


def main(config: Config) -> None:
    """Trains, scores, and writes the results."""
    keep_compiled()
    free = ("out", "seeds", "resamples")
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in free}
    claim(config.out, settings | {"directory": str(config.directory)})
    runs = {
        str(seed): joined([held_out(config, config.training(seed, fold)) for fold in range(config.folds)])
        for seed in config.seeds
    }
    classes = classifier.open_data(config.training(config.seeds[0], 0)).class_names
    print(write_results(config.out, runs, classes, config.methods, resamples=config.resamples))


def held_out(config: Config, training: classifier.Config) -> Held:
    """The fold that a network is not trained on, classified and explained by it."""
    network, classified, scored = (training.out / name for name in ("weights", "classified.npz", "scores"))
    if not network.exists():
        classifier.train_classifier(training)
        shutil.rmtree(training.out / "checkpoints")  # the network is there: 100 MB a training for nothing
    if not classified.exists() or not list(scored.glob("scores-*.parquet")):
        backbone = load_backbone(config.backbone, network)
        data = classifier.open_data(training)
        classify(classified, backbone, training, data)
        options = {"methods": config.methods, "metrics": config.metrics, "humans": False, "map_size": 0}
        asked = ScoreConfig(config.directory, scored, config.backbone, network, fold=training.fold, **options)
        score_records(asked, data.source, dict(data.source.dataset_info.metadata), backbone)
    return read_held(classified, scored)


def classify(path: Path, backbone: Backbone, training: classifier.Config, data: classifier.Data) -> None:
    """Writes ids, labels and probabilities of the images that were held out."""
    fold, k = training.fold or (0, 2)
    index = scan(data.source)
    ids, positions = index.ids, k_folds(index.groups, k)[fold]
    data = dataclasses.replace(data, parts={"held out": positions})

    @jax.jit
    def probabilities(params: Any, images: jax.Array) -> jax.Array:
        logits, _ = backbone.apply(params, backbone.preprocess(images))
        return jax.nn.softmax(logits)

    labels, values = [], []
    for batch in classifier.read(training, data, "held out", backbone.photo_size, batch_size=16):
        labels.append(batch["labels"][batch["mask"]])
        values.append(np.asarray(probabilities(backbone.params, batch["images"]))[batch["mask"]])
    with replacing(path) as file:
        np.savez(
            file,
            ids=np.array(ids)[positions],
            labels=np.concatenate(labels),
            probabilities=np.concatenate(values),
        )


def read_held(classified: Path, scored: Path) -> Held:
    """What is written of a fold.

    Raises:
        ValueError: the two are not of the same images.
    """
    scores = load(scored)
    with np.load(classified) as file:
        found: Mapping[str, np.ndarray] = dict(file)
    ids = tuple(found["ids"].tolist())
    if ids != tuple(row["id"] for row in scores.first):
        raise ValueError(f"{classified}: expected the images of {scored}, got others")
    return Held(
        ids,
        found["probabilities"],
        found["labels"],
        correctness(scores) == 0,
        clutter_counts(scores),
        scores.by_metric,
    )


def joined(folds: list[Held]) -> Held:
    """The images of all folds."""

    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(fold, name) for fold in folds])

    return Held(
        ids=tuple(image_id for fold in folds for image_id in fold.ids),
        probabilities=join("probabilities"),
        labels=join("labels"),
        correct=join("correct"),
        clutter=join("clutter"),
        scores={metric: np.concatenate([fold.scores[metric] for fold in folds]) for metric in folds[0].scores},
    )


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.classifier_folds", lambda: main(tyro.cli(Config))))
