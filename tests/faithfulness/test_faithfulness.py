import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from scipy import ndimage, stats

from mlfem_jax import faithfulness, from_function, from_linen, from_nnx
from mlfem_jax.faithfulness.baseline import baseline_image

SHAPE = (5, 6)
WEIGHTS = np.random.default_rng(0).normal(size=(*SHAPE, 3, 2)).astype(np.float32)


def linear(params, inputs):
    """Two logits, each a weighted sum of the pixels."""
    return jnp.einsum("nhwc,hwck->nk", inputs, params), {"inputs": inputs}


@pytest.fixture(scope="module")
def backbone():
    return from_function(linear, jnp.asarray(WEIGHTS), input_size=SHAPE, preprocess=lambda images: images)


@pytest.fixture
def image():
    return np.random.default_rng(1).random((*SHAPE, 3)).astype(np.float32)


def effects(image, target=0):
    """What each pixel adds to a logit of the linear network."""
    return (image * WEIGHTS[..., target]).sum(axis=-1)


@pytest.mark.parametrize(("steps", "batch_size"), [(1, 1), (7, 4), (30, 64)])
def test_curves_of_a_linear_network(backbone, image, steps, batch_size):
    importance = np.random.default_rng(2).random(SHAPE).astype(np.float32)
    added = effects(image).ravel()[np.argsort(-importance.ravel())]
    sums = np.concatenate([[0], np.cumsum(added)])
    options = {"target": 0, "steps": steps, "baseline": "black", "output": "logit", "batch_size": batch_size}
    shown = np.rint(np.arange(steps + 1) * 30 / steps).astype(int)
    inserted = faithfulness.insertion_curve(backbone, image, importance, **options)
    np.testing.assert_allclose(inserted, sums[shown], atol=1e-5)
    deleted = np.asarray(faithfulness.deletion_curve(backbone, image, importance, **options))
    np.testing.assert_allclose(deleted, sums[-1] - sums[30 - shown[::-1]], atol=1e-5)
    area = np.mean((sums[shown][1:] + sums[shown][:-1]) / 2)
    assert float(faithfulness.insertion_auc(backbone, image, importance, **options)) == pytest.approx(area, abs=1e-5)
    area = np.mean((deleted[1:] + deleted[:-1]) / 2)
    assert float(faithfulness.deletion_auc(backbone, image, importance, **options)) == pytest.approx(area, abs=1e-5)


@pytest.mark.parametrize(("baseline", "output"), [("blur", "softmax"), ("mean", "sigmoid"), ("black", "logit")])
def test_curves_end_at_the_image_and_the_baseline(backbone, image, baseline, output):
    importance = np.arange(30.0).reshape(SHAPE)
    substitute = np.asarray(baseline_image(jnp.asarray(image), baseline, blur_sigma_px=2.0))
    logits = np.einsum("nhwc,hwck->nk", np.stack([substitute, image]), WEIGHTS)
    scores = {
        "softmax": np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1),
        "sigmoid": 1 / (1 + np.exp(-logits[:, 1])),
        "logit": logits[:, 1],
    }[output]
    options = {"baseline": baseline, "output": output, "blur_sigma_px": 2.0, "target": 1, "steps": 3}
    curve = faithfulness.insertion_curve(backbone, image, importance, **options)
    np.testing.assert_allclose(curve[jnp.array([0, -1])], scores, rtol=1e-5)
    curve = faithfulness.deletion_curve(backbone, image, importance, **options)
    np.testing.assert_allclose(curve[jnp.array([-1, 0])], scores, rtol=1e-5)


def test_baselines(image):
    ones = np.ones(SHAPE)
    blur = [ndimage.gaussian_filter(part, 1.5, mode="constant", truncate=20) for part in (*image.T, ones.T)]
    value = baseline_image(jnp.asarray(image), "blur", blur_sigma_px=1.5)
    np.testing.assert_allclose(value, np.stack([part / blur[3] for part in blur[:3]]).T, rtol=1e-4)
    value = baseline_image(jnp.asarray(image), "mean", blur_sigma_px=1.5)
    np.testing.assert_allclose(value[3, 4], image.reshape(-1, 3).mean(axis=0), rtol=1e-6)
    assert not baseline_image(jnp.asarray(image), "black", blur_sigma_px=1.5).any()


def test_the_best_map_beats_random_ones(backbone, image):
    options = {"target": 0, "steps": 30, "baseline": "black", "output": "sigmoid"}
    best, rng = effects(image), np.random.default_rng(3)
    maps = np.stack([best, -best, *rng.random((8, *SHAPE)).astype(np.float32)])
    inserted = jax.vmap(lambda importance: faithfulness.insertion_auc(backbone, image, importance, **options))(maps)
    deleted = jax.vmap(lambda importance: faithfulness.deletion_auc(backbone, image, importance, **options))(maps)
    assert inserted.argmax() == deleted.argmin() == 0
    assert inserted.argmin() == deleted.argmax() == 1


def test_ties_are_broken_at_random_by_the_seed(backbone):
    image = np.ones((*SHAPE, 3), np.float32)
    rows = dataclasses.replace(backbone, params=jnp.broadcast_to(jnp.arange(5.0)[:, None, None, None], WEIGHTS.shape))
    importance = np.zeros(SHAPE, np.float32)
    importance[2:4, 1:3] = [[4, 3], [2, 1]]
    options = {"target": 0, "steps": 30, "baseline": "black", "output": "logit"}
    curves = [faithfulness.insertion_curve(rows, image, importance, seed=seed, **options) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(curves[0], curves[1])
    for curve in curves:
        np.testing.assert_allclose(curve[:5], [0, 6, 12, 21, 30])  # rows 2, 2, 3, 3 of three channels
        assert float(curve[-1]) == 180
    added = np.diff(curves[0][4:])
    assert (np.diff(added) < 0).any()  # not row by row
    assert (curves[0] != curves[2]).any()


def test_the_preferred_class_is_the_default_target(backbone, image):
    preferred = int(np.einsum("hwc,hwck->k", image, WEIGHTS).argmax())
    importance = effects(image)
    values = [
        faithfulness.insertion_auc(backbone, image, importance, steps=5, target=target) for target in (preferred, 1, 0)
    ]
    assert float(faithfulness.insertion_auc(backbone, image, importance, steps=5)) == float(values[0])
    assert float(values[1]) != float(values[2])
    assert np.isnan(faithfulness.insertion_auc(backbone, image, importance, steps=5, target=2))
    expected = faithfulness.confidence_change(backbone, image, importance, target=preferred)
    assert faithfulness.confidence_change(backbone, image, importance) == expected


def test_uint8_is_the_same_image(backbone):
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    importance = np.arange(30.0).reshape(SHAPE)
    curves = [
        faithfulness.insertion_curve(backbone, each, importance, steps=4)
        for each in (image, image.astype(np.float32) / 255)
    ]
    np.testing.assert_allclose(*curves, rtol=1e-6)


def test_confidence_change_by_hand(backbone, image):
    importance = np.linspace(2, 5, 30, dtype=np.float32).reshape(SHAPE)
    kept = image * np.linspace(0, 1, 30).reshape(*SHAPE, 1)
    for target in (0, 1):
        before, after = (1 / (1 + np.exp(-effects(each, target).sum())) for each in (image, kept))
        drop, increase = faithfulness.confidence_change(backbone, image, importance, target=target, output="sigmoid")
        assert float(drop) == pytest.approx(max(0, before - after) / before, abs=1e-6)
        assert float(increase) == (after > before)


@pytest.mark.parametrize("level", [1.0, np.nan])
def test_a_constant_or_broken_map_is_nan(backbone, image, level):
    importance = np.full(SHAPE, level, np.float32)
    assert np.isnan(faithfulness.insertion_auc(backbone, image, importance, steps=3))
    assert np.isnan(faithfulness.deletion_auc(backbone, image, importance, steps=3))
    assert np.isnan(faithfulness.confidence_change(backbone, image, importance)).all()
    key, method = jax.random.key(0), lambda forward: jnp.full((len(forward.inputs), *SHAPE), level)
    assert np.isnan(faithfulness.local_lipschitz(backbone, key, image, method=method))
    assert np.isnan(faithfulness.randomization_check(backbone, key, image, method=method)).all()


def test_maps_over_a_batch_with_one_trace(image):
    traces = []

    def counted(params, inputs):
        traces.append(inputs.shape)
        return linear(params, inputs)

    backbone = from_function(counted, jnp.asarray(WEIGHTS), input_size=SHAPE, preprocess=lambda images: images)
    images = np.random.default_rng(4).random((3, *SHAPE, 3)).astype(np.float32)
    maps = np.random.default_rng(5).random((3, *SHAPE)).astype(np.float32)
    run = jax.jit(
        jax.vmap(
            lambda image, importance: faithfulness.insertion_auc(backbone, image, importance, steps=6, batch_size=3)
        )
    )
    values = run(images, maps)
    traced = len(traces)
    run(images[::-1], maps)
    assert len(traces) == traced
    each = [faithfulness.insertion_auc(backbone, *pair, steps=6) for pair in zip(images, maps, strict=True)]
    np.testing.assert_allclose(values, np.stack(each), rtol=1e-5)


def test_local_lipschitz_of_a_linear_method(backbone, image):
    def tripled(forward):
        return 3 * forward.inputs.reshape(len(forward.inputs), 5, 18)

    for pixels in (image, np.round(image)):
        value = faithfulness.local_lipschitz(backbone, jax.random.key(0), pixels, method=tripled, draws=7, batch_size=3)
        assert float(value) == pytest.approx(3, rel=1e-4)


def test_a_method_that_jumps_is_less_stable(backbone):
    image, key = np.full((*SHAPE, 3), 0.5, np.float32), jax.random.key(0)
    image[0, 0] = 0.9

    def smooth(forward):
        return forward.inputs[..., 0]

    def jumping(forward):
        return (forward.inputs[..., 0] > 0.5).astype(jnp.float32)

    values = {method: faithfulness.local_lipschitz(backbone, key, image, method=method) for method in (smooth, jumping)}
    assert 0 < values[smooth] <= 1 < values[jumping]
    assert values[jumping] == faithfulness.local_lipschitz(backbone, key, image, method=jumping)
    assert values[jumping] != faithfulness.local_lipschitz(backbone, jax.random.key(1), image, method=jumping)


def dense(params, inputs):
    return jax.nn.relu(inputs @ params["kernel"] + params["bias"][None, None, None])


def deep(params, inputs):
    """Three layers in an order that is not that of their names, one under jit, one cast before its use."""
    last = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params["a"])
    first = jax.jit(dense)(params["z"], inputs)
    second = dense(params["m"], first)
    return dense(last, second).mean(axis=(1, 2)), {"first": first, "second": second}


@pytest.fixture(scope="module")
def deep_backbone():
    rng = np.random.default_rng(0)
    layer = {"kernel": (3, 3), "bias": (3,)}
    params = {
        name: {leaf: jnp.asarray(rng.random(shape), jnp.float32) for leaf, shape in layer.items()} for name in "amuz"
    }
    return from_function(deep, params, input_size=SHAPE, preprocess=lambda images: images)


def test_layers_are_in_the_order_of_use(deep_backbone):
    assert faithfulness.parameter_layers(deep_backbone) == ("z", "m", "a")  # nothing reads u


def test_layers_of_a_loop_and_of_a_bare_array(backbone):
    def loop(params, inputs):
        features, _ = jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), inputs, params["stack"]["kernel"])
        return features.mean(axis=(1, 2)) @ params["head"]["kernel"], {"features": features}

    params = {"head": {"kernel": jnp.eye(3)}, "stack": {"kernel": jnp.stack([jnp.eye(3)] * 4)}}
    looping = from_function(loop, params, input_size=SHAPE)
    assert faithfulness.parameter_layers(looping) == ("stack", "head")
    assert faithfulness.parameter_layers(backbone) == ("params",)


def test_layers_used_in_one_operation_are_one():
    def mixed(params, inputs):
        features = inputs @ (params["b"]["kernel"] + params["a"]["kernel"])
        return features.mean(axis=(1, 2)) @ params["c"]["kernel"], {"features": features}

    backbone = from_function(mixed, {name: {"kernel": jnp.eye(3)} for name in "abc"}, input_size=SHAPE)
    assert faithfulness.parameter_layers(backbone) == ("a", "c")


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.blocks = nnx.List([nnx.BatchNorm(4, rngs=rngs), nnx.Conv(4, 4, (1, 1), rngs=rngs)])
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, inputs):
        return self.head(self.blocks[1](self.blocks[0](self.stem(inputs))).mean(axis=(1, 2)))


def test_layers_of_an_nnx_module():
    backbone = from_nnx(Net(), ["stem"], input_size=SHAPE)
    assert faithfulness.parameter_layers(backbone) == ("stem", "blocks.0", "blocks.1", "head")


def test_layers_of_a_linen_module():
    net = linen.Sequential([linen.Dense(3), linen.relu, linen.Dense(2), lambda x: x.mean(axis=(1, 2))])
    variables = net.init(jax.random.key(0), jnp.zeros((1, *SHAPE, 3)))
    backbone = from_linen(net, variables, ["layers_0"], input_size=SHAPE)
    assert faithfulness.parameter_layers(backbone) == ("params.layers_0", "params.layers_2")


def test_randomization_goes_from_the_head_backward(deep_backbone, image):
    key = jax.random.key(0)

    def second(forward):
        return forward.activations["second"][..., 0]

    def first(forward):
        return forward.activations["first"][..., 1]

    def pixels(forward):
        return forward.inputs[..., 0]

    after = {m: faithfulness.randomization_check(deep_backbone, key, image, method=m) for m in (second, first, pixels)}
    np.testing.assert_allclose(after[pixels], 1, rtol=1e-6)
    np.testing.assert_allclose(after[first][:2], 1, rtol=1e-6)
    assert after[first][2] < 0.999
    np.testing.assert_allclose(after[second][:1], 1, rtol=1e-6)
    assert (after[second][1:] < 0.999).all()


def test_randomization_is_a_rank_correlation_with_the_redrawn_network(backbone, image):
    seen = []

    def product(forward):
        importance = jnp.round((forward.inputs * forward.backbone.params[None, ..., 0]).sum(axis=-1), 1)
        jax.debug.callback(
            lambda importance, params: seen.append((importance, params)), importance[0], forward.backbone.params
        )
        return importance

    value = faithfulness.randomization_check(backbone, jax.random.key(0), image, method=product)
    jax.effects_barrier()
    (before, learned), (after, redrawn) = (map(np.asarray, pair) for pair in seen)
    np.testing.assert_array_equal(learned, WEIGHTS)
    assert (redrawn != WEIGHTS).any() and np.isin(redrawn, WEIGHTS).all()
    expected = stats.spearmanr(before.ravel(), after.ravel()).statistic
    assert value.shape == (1,)
    assert float(value[0]) == pytest.approx(expected, abs=1e-5)


def test_bad_input_is_named(backbone, image):
    importance = np.zeros(SHAPE, np.float32)
    for options, message in [
        ({"steps": 0}, "steps: expected 1 to 30, the number of pixels, got 0"),
        ({"steps": 31}, "steps: expected 1 to 30, .* got 31"),
        ({"blur_sigma_px": 0.0}, "blur_sigma_px: .* got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            faithfulness.insertion_curve(backbone, image, importance, **({"steps": 3} | options))
    for function in (faithfulness.insertion_curve, faithfulness.confidence_change):
        unchecked = function.__wrapped__.__wrapped__  # neither compiled nor stopped by its annotations
        with pytest.raises(ValueError, match=r"importance: expected .* \(5, 6, 3\), got \(4, 6\)"):
            unchecked(backbone, image, np.zeros((4, 6), np.float32))
    with pytest.raises(ValueError, match=r"draws and radius: .* got 0 and 0\.05"):
        faithfulness.local_lipschitz(backbone, jax.random.key(0), image, method=lambda forward: None, draws=0)


def test_randomization_in_bfloat16(image):
    """A product that refuses two dtypes, as a convolution does."""

    def apply(params, inputs):
        return jax.lax.dot(inputs.mean(axis=(1, 2)), params), {"inputs": inputs}

    backbone = from_function(apply, jnp.eye(3, dtype=jnp.bfloat16), input_size=SHAPE, preprocess=lambda image: image)
    found = faithfulness.randomization_check(
        backbone, jax.random.key(0), image, method=lambda forward: forward.inputs[..., 0]
    )
    np.testing.assert_allclose(found, [1], rtol=1e-6)  # it sees the image alone
