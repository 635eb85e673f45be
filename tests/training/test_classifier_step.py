"""Losses against NumPy; ten steps against torch's; what is frozen, folded, and computed in parts."""

import dataclasses
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import load_backbone
from mlfem_jax.backbones.trainable import initial_weights, make_classifier, save_classifier, torch_state_dict
from mlfem_jax.training.classifier.augmentation import NO_AUGMENTATION
from mlfem_jax.training.classifier.recipe import Recipe, choose_loss, classification_losses
from mlfem_jax.training.classifier.step import initial_state, make_step
from tests.synthetic_weights import synthetic_inputs, synthetic_state_dict
from tests.training.tiny_classifier import SHAPES

pytestmark = pytest.mark.usefixtures("tiny")
GOLDEN = Path(__file__).parents[1] / "golden" / "classifier_steps.npz"
STEPS, BATCH = 10, 6
LABELS = jnp.asarray(np.eye(4, dtype=bool)[np.arange(BATCH) % 4])
RECIPE = Recipe(
    batch_size=BATCH, learning_rate=1e-2, warmup=0.2, weight_decay=1e-2, clip=1.0, augmentation=NO_AUGMENTATION
)


@pytest.fixture(scope="module")
def classifier(tiny):
    return make_classifier("tiny", 4)


@pytest.fixture(scope="module")
def weights(classifier, tmp_path_factory):
    """Parameters and statistics that torch can make too."""
    file = tmp_path_factory.mktemp("weights") / "synthetic.npz"
    np.savez(file, **synthetic_state_dict(SHAPES))
    return initial_weights(classifier, weights=file)


def batch_of(photos):
    ids = np.arange(len(photos), dtype=np.uint32)
    return {"images": photos, "labels": LABELS, "mask": np.ones(len(photos), bool), "numbers": ids}


def trained(classifier, weights, recipe, steps=2):
    """The state after some steps on noise."""
    photos = np.random.default_rng(0).integers(0, 256, (steps, BATCH, 16, 16, 3), dtype=np.uint8)
    state, step = initial_state(classifier, recipe, STEPS, *weights), make_step(classifier, recipe, STEPS, "softmax")
    for number in range(steps):
        state, _ = step(state, batch_of(photos[number]))
    return state


@pytest.fixture(scope="module")
def after_two(classifier, weights):
    """The state after two steps of the recipe."""
    return trained(classifier, weights, RECIPE)


def slow_loss(logits, labels, loss, smoothing):
    """The loss of one example and its gradient, class by class."""
    classes = len(logits)
    if loss == "softmax":
        shares = np.exp(logits) / np.exp(logits).sum()
        targets = [(1 - smoothing) * truth + smoothing / classes for truth in labels]
        value = -sum(target * np.log(share) for target, share in zip(targets, shares, strict=True))
        return value, [share - target for target, share in zip(targets, shares, strict=True)]
    shares = 1 / (1 + np.exp(-logits))
    targets = [(1 - smoothing) * truth + smoothing / 2 for truth in labels]
    terms = [-(t * np.log(s) + (1 - t) * np.log(1 - s)) for t, s in zip(targets, shares, strict=True)]
    return sum(terms) / classes, [(s - t) / classes for t, s in zip(targets, shares, strict=True)]


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_and_gradients_are_numpys(loss, smoothing):
    logits = np.random.default_rng(0).normal(0, 3, (5, 4))
    labels = np.eye(4, dtype=bool)[[0, 3, 1, 1, 2]]
    if loss == "sigmoid":
        labels[0], labels[1] = True, False
    expected = [slow_loss(row, truth, loss, smoothing) for row, truth in zip(logits, labels, strict=True)]

    def total(logits):
        losses = classification_losses(logits, jnp.asarray(labels), loss=loss, label_smoothing=smoothing)
        return losses.sum(), losses

    gradient, losses = jax.grad(total, has_aux=True)(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(losses, [value for value, _ in expected], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, [row for _, row in expected], rtol=1e-4, atol=1e-6)


def test_losses_are_float32_and_finite_at_the_ends():
    labels = jnp.array([[True, False]])
    for loss in ("softmax", "sigmoid"):
        losses = classification_losses(jnp.array([[-1e4, 1e4]], jnp.bfloat16), labels, loss=loss)
        assert losses.dtype == jnp.float32 and np.isfinite(losses).all()


def test_the_loss_is_chosen_from_the_labels():
    assert choose_loss([(0,), (), (2,)]) == "softmax"
    assert choose_loss([(0,), (1, 2)]) == "sigmoid"
    with pytest.raises(ValueError, match=r"labels: expected .*, got none; there is nothing to learn"):
        choose_loss([(), ()])


def test_ten_steps_and_the_first_gradient_are_torchs(classifier, weights):
    with np.load(GOLDEN) as file:
        golden = dict(file)

    def loss(params, statistics):
        logits, _ = classifier.apply(params, statistics, classifier.preprocess(golden["photos"][0]))
        return classification_losses(logits, LABELS, loss="softmax", label_smoothing=0.1).mean()

    gradient = torch_state_dict(classifier, jax.grad(loss)(*weights), weights[1])
    for name in (name.removeprefix("gradient/") for name in golden if name.startswith("gradient/")):
        np.testing.assert_allclose(gradient[name], golden[f"gradient/{name}"], rtol=1e-4, atol=1e-5, err_msg=name)

    state, step = initial_state(classifier, RECIPE, STEPS, *weights), make_step(classifier, RECIPE, STEPS, "softmax")
    losses = []
    for photos in golden["photos"]:
        state, value = step(state, batch_of(photos))
        losses.append(float(value))
    np.testing.assert_allclose(losses, golden["losses"], rtol=1e-4)
    after = torch_state_dict(classifier, state.params, state.beside)
    for name, values in after.items():
        tolerance = 1e-5 if "running" in name else 1e-3  # Adam divides small gradients by themselves
        np.testing.assert_allclose(values, golden[f"after/{name}"], rtol=tolerance, atol=tolerance, err_msg=name)


def test_the_folded_network_gives_the_logits_of_the_trained_one(classifier, after_two, tmp_path):
    state = after_two
    save_classifier(tmp_path / "w", classifier, state.params, state.beside, labels=list("abcd"), notes={})
    folded = load_backbone("tiny", tmp_path / "w")
    assert folded.labels == ("a", "b", "c", "d")
    inputs = jnp.asarray(synthetic_inputs((3, 16, 16, 3)))
    expected, unchanged = classifier.apply(state.params, state.beside, inputs, running=True)
    np.testing.assert_allclose(folded.apply(folded.params, inputs)[0], expected, atol=1e-4)
    chex.assert_trees_all_equal(unchanged, state.beside, strict=True)


def test_a_frozen_network_trains_its_head_alone(classifier, weights):
    state = trained(classifier, weights, Recipe(batch_size=BATCH, freeze=True, augmentation=NO_AUGMENTATION))
    chex.assert_trees_all_equal(state.beside, weights[1], strict=True)
    before, after = weights[0], state.params
    assert np.abs(after["fc"]["kernel"] - before["fc"]["kernel"]).max() > 0
    for name in before.keys() - {"fc"}:
        chex.assert_trees_all_equal(after[name], before[name], strict=True)


def test_a_batch_in_parts_has_the_gradient_of_the_whole(classifier, weights):
    # With the running statistics: those of a batch differ from those of its parts.
    recipes = [
        Recipe(batch_size=BATCH, freeze=True, accumulate=parts, augmentation=NO_AUGMENTATION) for parts in (1, 3)
    ]
    whole, parts = (trained(classifier, weights, recipe).params["fc"] for recipe in recipes)
    chex.assert_trees_all_close(whole, parts, rtol=1e-5, atol=1e-6)


def test_bfloat16_keeps_parameters_and_statistics_in_float32(classifier, weights, after_two):
    rough = trained(classifier, weights, dataclasses.replace(RECIPE, dtype="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves((rough.params, rough.beside))} == {jnp.dtype("float32")}
    chex.assert_trees_all_close(after_two.beside, rough.beside, rtol=1e-7, atol=0.03)


def test_a_head_for_other_classes_is_new_and_the_rest_is_the_files(tmp_path):
    file = synthetic_state_dict(SHAPES)
    np.savez(tmp_path / "w.npz", **file)
    params, statistics = initial_weights(make_classifier("tiny", 7), weights=tmp_path / "w.npz")
    assert params["fc"]["kernel"].shape == (16, 7)
    np.testing.assert_array_equal(params["conv1"]["kernel"], file["conv1.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(statistics["conv3"]["variance"], file["bn3.running_var"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs, .*: expected numbers above 0, got .*epochs=0"),
        ({"accumulate": 3, "batch_size": 16}, "accumulate: expected a divisor of 16, got 3"),
        ({"warmup": 1.0}, r"expected shares in \[0, 1\)"),
        ({"clip": -1.0}, r"clip: expected at least 0, got .* and -1\.0"),
        ({"norm_momentum": 0.0}, r"norm_momentum: expected a weight in \(0, 1\]"),
    ],
)
def test_bad_recipes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**options)
