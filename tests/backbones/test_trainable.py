"""The named networks in their training form: what comes out of a weight file goes back into one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import load_backbone
from mlfem_jax.backbones.architectures import ARCHITECTURES
from mlfem_jax.backbones.files.folding import state_dict, unfold
from mlfem_jax.backbones.files.keras_file import torch_resnet
from mlfem_jax.backbones.files.read import read_weights
from mlfem_jax.backbones.networks import vgg
from mlfem_jax.backbones.networks.vit import ViT
from mlfem_jax.backbones.preprocess import imagenet_preprocess
from mlfem_jax.backbones.towers import TOWERS, Tower
from mlfem_jax.backbones.trainable import initial_weights, make_classifier, save_classifier, torch_state_dict
from mlfem_jax.training.classifier.recipe import Recipe
from mlfem_jax.training.classifier.step import initial_state, make_step


def test_the_packaged_network_keeps_its_arrays_but_for_the_head_and_its_logits_when_folded(efficientnet, tmp_path):
    classifier = make_classifier("efficientnet_lite0", 1000)
    params, statistics = initial_weights(classifier)
    inputs = jax.random.normal(jax.random.key(0), (1, 64, 64, 3))
    expected, _ = jax.jit(efficientnet.apply)(efficientnet.params, inputs)
    running = jax.jit(functools.partial(classifier.apply, running=True))
    np.testing.assert_allclose(running(params, statistics, inputs)[0], expected, atol=1e-4)
    save_classifier(tmp_path / "weights", classifier, params, statistics, labels=efficientnet.labels, notes={})
    for place in (tmp_path, tmp_path / "weights"):  # a run's folder, and the one in it
        again = load_backbone("efficientnet_lite0", place)
        jax.tree.map(np.testing.assert_array_equal, again.params, efficientnet.params)

    few, _ = initial_weights(make_classifier("efficientnet_lite0", 4), seed=1)
    assert few["fc"]["kernel"].shape == (1280, 4)
    np.testing.assert_array_equal(few["stem"]["kernel"], params["stem"]["kernel"])


def test_a_resnet_from_scratch_is_read_back(tmp_path):
    classifier = make_classifier("resnet18", 3)
    params, statistics = initial_weights(classifier, weights="random")
    inputs = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    _, statistics = jax.jit(classifier.apply)(params, statistics, inputs)
    expected, _ = jax.jit(functools.partial(classifier.apply, running=True))(params, statistics, inputs)
    save_classifier(tmp_path / "w", classifier, params, statistics, labels="abc", notes={})
    arrays, written = read_weights(tmp_path / "w"), torch_state_dict(classifier, params, statistics)
    assert arrays.keys() == written.keys()
    again = initial_weights(classifier, weights=tmp_path / "w", seed=7)
    jax.tree.map(np.testing.assert_array_equal, again, (params, statistics))
    folded = load_backbone("resnet18", tmp_path / "w")
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(folded.apply(folded.params, inputs)[0] / scale, expected / scale, atol=1e-4)


def test_a_bias_before_a_batch_norm_is_taken_off_the_running_mean():
    arrays = {
        "features.0.weight": np.ones((2, 3, 1, 1), np.float32),
        "features.0.bias": np.array([0.5, -1.0], np.float32),
        "features.1.weight": np.array([2.0, 3.0], np.float32),
        "features.1.bias": np.array([4.0, 5.0], np.float32),
        "features.1.running_mean": np.array([1.0, 1.0], np.float32),
        "features.1.running_var": np.array([6.0, 7.0], np.float32),
    }
    names = functools.partial(vgg.torch_names, depths=(1,), norm=True)
    zeros = np.zeros(2, np.float32)
    params = {"convs": {"conv1_1": {"kernel": np.zeros((1, 1, 3, 2), np.float32), "scale": zeros, "bias": zeros}}}
    statistics = {"convs": {"conv1_1": {"mean": zeros, "variance": zeros}}}
    params, statistics = unfold(params, statistics, arrays, names)
    found = statistics["convs"]["conv1_1"]
    assert found["mean"].tolist() == [0.5, 2.0] and found["variance"].tolist() == [6.0, 7.0]
    back = state_dict(params, statistics, names)
    assert "features.0.bias" not in back and back["features.1.running_mean"].tolist() == [0.5, 2.0]
    np.testing.assert_array_equal(back["features.0.weight"], arrays["features.0.weight"])


def test_the_first_dense_layer_of_a_vgg_goes_back_to_torchvisions_order():
    first = np.arange(3 * 2 * 49, dtype=np.float32).reshape(3, 98)
    ours = vgg.canonical({"classifier.0.weight": first})
    assert not np.array_equal(ours["classifier.0.weight"], first)
    np.testing.assert_array_equal(vgg.torchvision_form(ours)["classifier.0.weight"], first)


def test_a_keras_network_is_written_by_torch_names_which_are_read_as_they_are():
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(torch_resnet({"fc.weight": kernel})["fc.weight"], kernel)


@pytest.mark.parametrize("name", ["resnet18", "keras_resnet50", "vgg16", "vgg16_bn", "efficientnet_lite0"])
def test_every_kind_of_network_has_a_training_form(name):
    classifier = make_classifier(name, 5)
    assert ARCHITECTURES[name].torch_names(classifier.head)[0] == ARCHITECTURES[name].classifier
    params, statistics = jax.eval_shape(lambda: initial_weights(classifier, weights="random"))
    inputs = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.bfloat16)
    logits, moved = jax.eval_shape(classifier.apply, params, statistics, inputs)
    assert logits.shape == (2, 5) and logits.dtype == jnp.bfloat16 and moved == statistics
    assert {leaf.dtype for leaf in jax.tree.leaves((params, moved))} == {jnp.dtype("float32")}
    assert (len(jax.tree.leaves(statistics)) == 0) == (ARCHITECTURES[name].norm is None)


@pytest.fixture
def tower(monkeypatch):
    """A vision transformer without a head, and one whose head projects to an embedding."""
    config = ViT(patch=4, width=8, depth=2, heads=2, hidden=16, size=16, scaled=True)
    monkeypatch.setitem(TOWERS, "tower", Tower(config, imagenet_preprocess, "tiny"))
    monkeypatch.setitem(TOWERS, "clip", Tower(config, imagenet_preprocess, "tiny", embeds=True))
    return config


@pytest.mark.parametrize(("prefix", "rotary"), [(("cls",), None), (("cls", "registers"), None),
                                                (("cls", "registers"), 100.0)])  # fmt: skip
def test_a_tower_gets_a_head_and_is_read_back(tower, monkeypatch, tmp_path, prefix, rotary):
    config = dataclasses.replace(tower, prefix=prefix, registers=2 * (len(prefix) - 1), rotary=rotary)
    monkeypatch.setitem(TOWERS, "tower", Tower(config, imagenet_preprocess, "tiny"))
    classifier = make_classifier("tower", 3)
    params, statistics = initial_weights(classifier, weights="random", seed=1)
    inputs = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    expected, _ = classifier.apply(params, statistics, inputs)
    save_classifier(tmp_path / "w", classifier, params, statistics, labels="abc", notes={"loss": "sigmoid"})
    again = load_backbone("tower", tmp_path / "w")
    assert again.labels == ("a", "b", "c") and again.output == "sigmoid" and not again.embeds
    np.testing.assert_allclose(again.apply(again.params, inputs)[0], expected, atol=1e-5)
    kept, _ = initial_weights(classifier, weights=tmp_path / "w", seed=2)
    jax.tree.map(np.testing.assert_array_equal, kept, params)
    other, _ = initial_weights(make_classifier("tower", 5), weights=tmp_path / "w", seed=2)
    jax.tree.map(np.testing.assert_array_equal, other["tower"], params["tower"])
    assert other["head"]["weight"].shape == (5, 8)
    with pytest.raises(ValueError, match="expected weights of resnet18, got a run of tower"):
        load_backbone("resnet18", tmp_path / "w")


def test_a_frozen_tower_learns_its_head_alone(tower):
    classifier, recipe = make_classifier("tower", 3), Recipe(freeze=True, learning_rate=0.1, batch_size=3)
    first = initial_weights(classifier, weights="random")
    photos = np.random.default_rng(0).integers(0, 256, (3, 18, 18, 3), dtype=np.uint8)
    batch = {"images": photos, "labels": np.eye(3, dtype=bool), "numbers": np.arange(3, dtype=np.uint32)}
    state, step = initial_state(classifier, recipe, 8, *first), make_step(classifier, recipe, 8, "softmax")
    for _ in range(3):
        state, _ = step(state, batch)
    jax.tree.map(np.testing.assert_array_equal, state.params["tower"], first[0]["tower"])
    assert float(jnp.abs(state.params["head"]["weight"] - first[0]["head"]["weight"]).min()) > 0


def test_a_head_that_projects_to_an_embedding_is_not_replaced(tower):
    with pytest.raises(ValueError, match="expected a tower that a class head can be put on"):
        make_classifier("clip", 3)
