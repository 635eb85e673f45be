"""The faithfulness test with a gradient, and training by it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import faithfulness, from_function
from mlfem_jax.fusion.channel_nets import ChannelSum
from mlfem_jax.fusion.channels import pack
from mlfem_jax.training.fusion.step import Recipe, initial_state, make_step

SHAPE = (4, 6)
WEIGHTS = np.random.default_rng(0).normal(size=(*SHAPE, 3, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def backbone():
    """Each of two logits is a weighted sum of the pixels."""

    def apply(params, inputs):
        return jnp.einsum("nhwc,hwck->nk", inputs, params), {"inputs": inputs}

    return from_function(apply, jnp.asarray(WEIGHTS), input_size=SHAPE, preprocess=lambda images: images)


@pytest.fixture
def image():
    return np.random.default_rng(1).random((*SHAPE, 3)).astype(np.float32)


def test_agrees_with_loop(backbone, image):
    importance = np.random.default_rng(2).random(SHAPE).astype(np.float32)
    key, mean_color, found = jax.random.key(3), image.mean(axis=(0, 1)), []
    values = (importance - importance.mean()) / importance.std()
    for share in (np.arange(5) + np.asarray(jax.random.uniform(key, (5,)))) / 5:
        strong = 1 / (1 + np.exp(-(values - np.quantile(values, 1 - share)) / 0.25))
        probabilities = []
        for weight in (strong, 1 - strong):
            seen = weight[..., None] * image + (1 - weight[..., None]) * mean_color
            logits = np.einsum("hwc,hwck->k", seen, WEIGHTS)
            probabilities.append(np.exp(logits[1]) / np.exp(logits).sum())
        found.append(probabilities[0] - probabilities[1])
    soft = faithfulness.soft_abpc(backbone, image, importance, key, target=1, draws=5)
    assert float(soft) == pytest.approx(np.mean(found), abs=1e-5)


def test_many_sharp_draws_are_abpc(backbone, image):
    importance = np.random.default_rng(4).random(SHAPE).astype(np.float32)
    options = {"target": 0, "baseline": "black", "output": "logit"}
    sharp = faithfulness.soft_abpc(backbone, image, importance, jax.random.key(0), draws=4000, softness=1e-5, **options)
    exact = faithfulness.abpc(backbone, image, importance, steps=24, **options)
    # The two ends of the curves cancel; without them, 23 shares of 24 pixels are averaged in the place of 24 steps.
    assert float(sharp) == pytest.approx(float(exact) * 24 / 23, rel=5e-3)


def test_a_constant_map_is_worth_nothing(backbone, image):
    assert float(faithfulness.soft_abpc(backbone, image, np.ones(SHAPE, np.float32), jax.random.key(0))) == 0


def test_a_constant_map_has_a_gradient_of_zero(backbone, image):
    def soft(importance):
        return faithfulness.soft_abpc(backbone, image, importance, jax.random.key(0))

    assert jnp.isfinite(jax.grad(soft)(jnp.ones(SHAPE))).all()


@pytest.mark.parametrize("options", [{"draws": 0}, {"softness": 0.0}, {"softness": -0.25}])
def test_odd_cuts_are_refused(backbone, image, options):
    with pytest.raises(ValueError, match="draws, softness: expected at least 1, and a width above 0, got"):
        faithfulness.soft_abpc(backbone, image, image[..., 0], jax.random.key(0), **options)


def test_the_gradient_leads_to_a_more_faithful_map(backbone, image):
    importance = np.random.default_rng(5).random(SHAPE).astype(np.float32)

    def soft(importance):
        return faithfulness.soft_abpc(backbone, image, importance, jax.random.key(8), target=0, draws=3, output="logit")

    gradient = jax.grad(soft)(jnp.asarray(importance))
    assert np.isfinite(gradient).all()
    step = 0.05 * jnp.asarray(gradient / np.abs(gradient).max())
    assert float(soft(importance + step)) > float(soft(importance)) > float(soft(importance - step))


@pytest.mark.parametrize(("share", "stronger"), [(0.0, 1), (1.0, 0)])
def test_weights_follow_gaze_or_the_network(share, stronger):
    """Channel 0 is strong where the network looks, channel 1 where people do."""

    def apply(params, inputs):
        logits = inputs[:, :3, :3].mean(axis=(1, 2))[:, :2] * params
        return logits, {"inputs": inputs}

    backbone = from_function(apply, jnp.float32(8), input_size=(8, 8), preprocess=lambda images: images)
    strong = np.zeros((1, 8, 8, 2), bool)
    strong[0, :3, :3, 0], strong[0, 5:, 5:, 1] = True, True
    image = np.zeros((8, 8, 3), np.float32)
    image[:3, :3, 0] = 1
    example = {
        "maps": [pack(jnp.asarray(strong))],
        "images": image,
        "frame": np.zeros((8, 8, 0), np.uint8),
        "fixations": np.array([[6.0, 6.0]], np.float32),
        "fixation_mask": np.array([True]),
        "sigma_px": np.array([1.0, 1.0], np.float32),
        "mask": np.array(True),
    }
    batch = jax.tree.map(lambda leaf: np.stack([leaf] * 4), example)
    net = ChannelSum(1, depths=(2,), shrink=1, thinning=0.0)
    recipe = Recipe(batch_size=4, learning_rate=0.1, faithful=share, flips=False)

    def faithful(image, importance, key):
        return faithfulness.soft_abpc(backbone, image, importance, key)

    step = make_step(net, recipe, 20, faithful=faithful if share else None)
    state = initial_state(net, recipe, 20)
    for _ in range(20):
        state, _ = step(state, batch)
    weights = np.asarray(net.weights(state.params)[0]).ravel()
    assert weights[stronger] > weights[1 - stronger] + 0.5
