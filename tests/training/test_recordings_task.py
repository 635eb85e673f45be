"""A classifier of signals: from a data set of recordings to a network that is scored on them."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs TFDS")

from mlfem_jax import explain, load_backbone
from mlfem_jax.backbones import make_classifier
from mlfem_jax.data.prepared.write import prepare
from mlfem_jax.scores.config import Config as ScoreConfig
from mlfem_jax.scores.run import score
from mlfem_jax.scores.table import read_scores
from mlfem_jax.training.classifier.recipe import Recipe
from mlfem_jax.training.classifier.task import Config, train_classifier

LENGTH = 24


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """32 signals of noise with a bump, up or down, which is the class."""
    root, draw = tmp_path_factory.mktemp("bumps"), np.random.default_rng(0)
    (root / "recordings").mkdir()
    events, labels = ["recording,t"], ["recording,label"]
    for number in range(32):
        signal, at = draw.normal(0, 0.05, LENGTH), int(draw.integers(3, LENGTH - 3))
        signal[at - 1 : at + 2] += 1 if number % 2 else -1
        np.save(root / "recordings" / f"s{number:02}.npy", signal)
        events.append(f"s{number:02},{at}")
        labels.append(f"s{number:02},{'up' if number % 2 else 'down'}")
    (root / "events.csv").write_text("\n".join([*events, ""]))
    (root / "labels.csv").write_text("\n".join([*labels, ""]))
    return prepare("recordings", root, root / "built", sigma_px=1.0)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    recipe = Recipe(epochs=15, batch_size=8, learning_rate=1e-2, label_smoothing=0.0)
    train_classifier(Config(data, out, "small_cnn", validation=0.0, every=60, recipe=recipe))
    return out


def test_it_learns_and_is_explained_where_the_event_is(data, run, tmp_path):
    network = load_backbone("small_cnn", weights=run)
    assert network.input_shape == (LENGTH, 1) and network.labels == ("down", "up") and not network.photos
    out = tmp_path / "scores"
    methods, metrics = ("occlusion:window_px=3,stride_px=1", "random"), ("pcc", "pointing_game")
    score(ScoreConfig(data, out, "small_cnn", run, methods=methods, metrics=metrics, map_size=0))
    rows = read_scores(out).to_pylist()
    assert np.mean([row["correct"] for row in rows]) == 1
    hits = [np.mean([row["pointing_game"] for row in rows if row["method"] == name]) for name in methods]
    assert hits[0] > 0.9 and hits[1] < 0.5


def test_one_network_for_one_to_three_axes():
    for shape in ((9, 2), (6, 7, 1), (4, 5, 6, 3)):
        classifier = make_classifier("small_cnn", 2, input_shape=shape)
        assert classifier.input_size == shape[:-1] and classifier.channels == shape[-1]


def test_photographs_and_recordings_are_not_mixed_up(data, run, tmp_path):
    config = Config(data, tmp_path / "out")
    with pytest.raises(
        ValueError, match="backbone: expected small_cnn, which learns from recordings, got 'efficientnet"
    ):
        train_classifier(config)
    with pytest.raises(ValueError, match=r"weights: expected none for small_cnn, trained from scratch, got a\.pth"):
        train_classifier(dataclasses.replace(config, backbone="small_cnn", weights="a.pth"))
    for recipe in (Recipe(freeze=True), Recipe(norm_momentum=0.5)):
        with pytest.raises(ValueError, match=r"(freeze|norm_momentum): expected (False|None) for recordings, whose"):
            train_classifier(dataclasses.replace(config, backbone="small_cnn", recipe=recipe))
    with pytest.raises(ValueError, match=r"rule: expected stretch for recordings, .* got letterbox"):
        train_classifier(dataclasses.replace(config, backbone="small_cnn", rule="letterbox"))
    with pytest.raises(ValueError, match="backbone: expected a network of photographs, got 'small_cnn'"):
        make_classifier("small_cnn", 2)
    for weights in (None, "random"):
        with pytest.raises(ValueError, match="weights: expected the folder of a run of `mlfem train classifier`, got"):
            load_backbone("small_cnn", weights)
    with pytest.raises(ValueError, match="expected weights of resnet18, got a run of small_cnn"):
        load_backbone("resnet18", weights=run)
    with pytest.raises(ValueError, match=r"images: expected examples of shape \(24, 1\) or \(24,\)"):
        explain(load_backbone("small_cnn", weights=run), np.zeros((2, 30)))
