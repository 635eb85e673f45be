"""The script from a prepared data set to a network that is explained, fused and scored."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from eval.experiments import classifier_folds
from mlfem_jax import explain, load_backbone
from mlfem_jax.data.batches import open_dataset, read_batches
from mlfem_jax.data.example import ExampleFormat
from mlfem_jax.data.prepared.write import prepare
from mlfem_jax.scores import run as scoring
from mlfem_jax.scores.table import read_scores
from mlfem_jax.training.classifier import task as classifier
from mlfem_jax.training.classifier.augmentation import NO_AUGMENTATION
from mlfem_jax.training.classifier.recipe import Recipe
from mlfem_jax.training.classifier.task import Config
from mlfem_jax.training.fusion import task as fusion
from mlfem_jax.training.fusion.step import Recipe as FusionRecipe
from mlfem_jax.training.run import read_metrics

pytestmark = pytest.mark.usefixtures("tiny")
COLORS = {"blue": (30, 30, 220), "green": (30, 220, 30), "red": (220, 30, 30)}
RECIPE = Recipe(
    epochs=20, batch_size=8, learning_rate=3e-2, label_smoothing=0.0, norm_momentum=0.3, augmentation=NO_AUGMENTATION
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """24 photographs of a colored square each, looked at there; the class is its color."""
    root = tmp_path_factory.mktemp("colors")
    (root / "images").mkdir()
    rng, gaze, labels = np.random.default_rng(0), ["image,x,y,observer"], ["image,label,clutter"]
    for number in range(24):
        pixels = rng.integers(0, 60, (24, 24, 3), dtype=np.uint8)
        y, x = rng.integers(5, 19, 2)
        name = list(COLORS)[number % 3]
        pixels[y - 4 : y + 5, x - 4 : x + 5] = COLORS[name]
        Image.fromarray(pixels).save(root / "images" / f"photo{number}.png")
        gaze += [f"photo{number}.png,{x},{y},{observer}" for observer in range(2)]
        labels.append(f"photo{number}.png,{name},{1 + number // 6}")
    (root / "fixations.csv").write_text("\n".join([*gaze, ""]))
    (root / "labels.csv").write_text("\n".join([*labels, ""]))
    return prepare("folder", root, root / "built", sigma_px=3.0)


@pytest.fixture(scope="module")
def run(tiny, data, tmp_path_factory):
    """The folder of a training on all 24 photographs."""
    out = tmp_path_factory.mktemp("run") / "out"
    classifier.train_classifier(Config(data, out, "tiny", weights="random", validation=0.0, every=30, recipe=RECIPE))
    return out


def test_files_of_others_are_not_written_over(data, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "thesis.txt").write_text("mine")
    with pytest.raises(
        FileExistsError, match="expected files that this program made, got weights, which would be written over"
    ):
        classifier.train_classifier(Config(data, tmp_path, "tiny", weights="random"))
    assert (tmp_path / "weights" / "thesis.txt").read_text() == "mine"


def test_it_overfits_and_is_folded_and_explained(data, run):
    backbone = load_backbone("tiny", run)
    assert backbone.labels == ("blue", "green", "red")
    assert [row["step"] for row in read_metrics(run)] == [30, 60]
    (batch,) = read_batches(open_dataset(data), ExampleFormat((16, 16), 2, classes=3), batch_size=24)
    logits, _ = backbone.apply(backbone.params, backbone.preprocess(batch.images))
    np.testing.assert_array_equal(np.argmax(logits, axis=1), np.argmax(batch.labels, axis=1))
    assert explain(backbone, batch.images, method="fem").shape == (24, 16, 16)


def test_it_goes_into_the_scores(data, run, tmp_path):
    out = tmp_path / "scores"
    config = scoring.Config(data, out, "tiny", run, methods=("fem", "grad_cam"), metrics=("pcc",), map_size=0)
    scoring.score(config)
    rows = read_scores(out).to_pylist()
    assert len(rows) == 24 * 3 and all(row["correct"] for row in rows)  # the humans are the third


def test_it_goes_into_the_fusion(data, run, tmp_path):
    recipe = FusionRecipe(epochs=1, batch_size=4)
    out = tmp_path / "fused"
    fusion.train_fusion(
        fusion.Config(
            data, out, "tiny", weights=run, architecture="net", validation=0.3, cache=tmp_path / "m", recipe=recipe
        )
    )
    assert json.loads((out / "fusion.json").read_text())["layers"] == ["conv1", "conv2", "conv3"]


def test_validation_chooses_and_is_written(data, tmp_path, capsys):
    recipe = dataclasses.replace(RECIPE, epochs=2)
    config = Config(data, tmp_path / "a", "tiny", weights="random", validation=0.3, recipe=recipe)
    classifier.train_classifier(config)
    about = json.loads((tmp_path / "a" / "weights" / "classifier.json").read_text())
    assert about["validation"]["top_1"] == max(row["top_1"] for row in read_metrics(tmp_path / "a"))
    held = np.sum(about["validation"]["confusion"])
    assert f"{24 - held} train, {held} validation" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ValueError, match=r"other settings.*\(loss: expected None, got 'sigmoid'\)$"):
        classifier.train_classifier(dataclasses.replace(config, loss="sigmoid"))
    with pytest.raises(ValueError, match="fold: expected 0 to 2 of 3, got 3"):
        classifier.train_classifier(dataclasses.replace(config, out=tmp_path / "b", fold=(3, 3)))


def test_one_class_is_refused_by_name_and_the_corrected_command_works(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(4):
        Image.new("RGB", (24, 24), (40 * number, 0, 0)).save(tmp_path / "images" / f"p{number}.png")
    rows = [f"p{number}.png,{5 + number},5,0" for number in range(4)]
    (tmp_path / "fixations.csv").write_text("\n".join(["image,x,y,observer", *rows, ""]))
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *(f"p{number}.png,red" for number in range(4)), ""]))
    built = prepare("folder", tmp_path, tmp_path / "built", sigma_px=3.0)
    with pytest.raises(ValueError, match=r"expected at least 2 classes to tell apart, got red$"):
        classifier.train_classifier(Config(built, tmp_path / "out", "tiny", weights="random", validation=0.0))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": dataclasses.replace(RECIPE, batch_size=64)}, "batch_size: expected at most the 24 examples"),
        ({"weights": "nowhere.pth"}, "nowhere.pth"),
        ({"fold": (3, 3)}, "fold: expected 0 to 2 of 3, got 3"),
    ],
)
def test_a_fault_of_the_inputs_leaves_no_run(data, tmp_path, change, message):
    config = Config(data, tmp_path / "out", "tiny", weights="random", validation=0.0, recipe=RECIPE)
    with pytest.raises((ValueError, OSError), match=message):
        classifier.train_classifier(dataclasses.replace(config, **change))
    assert not (tmp_path / "out").exists()


def test_cross_validation_scores_every_image_by_a_network_that_has_not_seen_it(data, tmp_path, capsys):
    recipe = dataclasses.replace(RECIPE, epochs=2)
    methods, metrics = ("fem", "center"), ("pcc", "similarity")
    options = {"methods": methods, "metrics": metrics, "resamples": 99, "recipe": recipe}
    config = classifier_folds.Config(data, tmp_path / "f", "tiny", weights="random", folds=2, seeds=(0,), **options)
    classifier_folds.main(config)
    printed = capsys.readouterr().out
    ids = [read_scores(tmp_path / "f" / f"seed0_fold{fold}" / "scores")["id"].to_pylist() for fold in (0, 1)]
    assert not set(ids[0]) & set(ids[1]) and len(set(ids[0]) | set(ids[1])) == 24
    rows = list(csv.DictReader((tmp_path / "f" / "correct.csv").read_text().splitlines()))
    counts = [int(row["count"]) for row in rows if (row["seed"], row["metric"], row["method"]) == ("all", "pcc", "fem")]
    assert sum(counts) == 24
    (about,) = csv.DictReader((tmp_path / "f" / "classification.csv").read_text().splitlines())
    assert float(about["top_1"]) == pytest.approx(counts[0] / 24, rel=1e-5)
    assert {path.name for path in (tmp_path / "f").glob("*.png")} == {"correct.png", "clutter.png"}

    classifier_folds.main(config)  # nothing is left to do
    assert capsys.readouterr().out == printed[printed.index("| seed") :]
