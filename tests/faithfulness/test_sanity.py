"""IROF, the random logit test and randomization in all its forms, against Quantus (golden/quantus.npz) and by hand."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mlfem_jax as mlfem
from mlfem_jax import faithfulness
from mlfem_jax.faithfulness.randomization import forgetful
from mlfem_jax.faithfulness.sanity import histogram_entropy

SIZE = (6, 8)


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent.parent / "golden" / "quantus.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def backbone(golden):
    def apply(params, inputs):
        features = jax.nn.relu(inputs @ params["first"])
        return features.mean(axis=(1, 2)) @ params["head"], {"features": features}

    params = {name: jnp.asarray(golden[name]) for name in ("first", "head")}
    return mlfem.from_function(apply, params, input_size=SIZE, preprocess=lambda images: jnp.asarray(images) - 0.5)


def gradient_x_input(forward):
    return mlfem.method("gradient_x_input", raw=True)(forward)


def first_feature(forward):
    return forward.activations["features"][..., 0]


def test_irof_is_that_of_quantus(backbone, golden):
    for image, importance, labels, expected in zip(
        *(golden[key] for key in ("images", "maps", "labels", "irof")), strict=True
    ):
        curve = faithfulness.irof_curve(backbone, image, importance, labels, most=12, baseline="black")
        count = labels.max() + 1
        assert curve[0] == 1 and np.isfinite(curve[: count + 1]).all() and np.isnan(curve[count + 1 :]).all()
        assert count - np.trapezoid(curve[1 : count + 1]) == pytest.approx(expected, rel=1e-4)
        area = faithfulness.irof(backbone, image, importance, labels, most=20, baseline="black")
        assert float(area) == pytest.approx(1 - np.trapezoid(curve[: count + 1]) / count, rel=1e-4)


def test_irof_of_a_constant_map_is_nan(backbone, golden):
    image, labels = golden["images"][0], golden["labels"][0]
    assert np.isnan(faithfulness.irof(backbone, image, np.ones(SIZE, np.float32), labels, most=12))
    with pytest.raises(ValueError, match=r"labels and most: expected \(6, 8\) and at least 1, got \(6, 8\) and 0"):
        faithfulness.irof(backbone, image, golden["maps"][0], labels, most=0)


def test_random_logit_is_that_of_quantus(backbone, golden):
    """Of two classes the other one is no matter of chance."""
    for image, expected in zip(golden["images"], golden["random_logit"], strict=True):
        found = faithfulness.random_logit(backbone, jax.random.key(0), image, method=gradient_x_input)
        assert float(found) == pytest.approx(expected, abs=1e-4)


def test_a_method_without_a_class_fails_the_random_logit_test(backbone, golden):
    found = faithfulness.random_logit(backbone, jax.random.key(0), golden["images"][0], method=first_feature)
    assert float(found) == pytest.approx(1, abs=1e-6)


def test_histogram_entropy_is_that_of_quantus(golden):
    for importance, bins, expected in zip(golden["maps"], (5, 10, 100), golden["entropy"], strict=True):
        assert float(histogram_entropy(importance, bins=bins)) == pytest.approx(expected, rel=1e-4)


def test_complexity_rises_by_the_redrawn_networks_map(backbone, golden):
    key, image = jax.random.key(3), golden["images"][0]
    found = faithfulness.complexity_rise(backbone, key, image, method=gradient_x_input, bins=10)
    maps = [
        np.asarray(gradient_x_input(mlfem.backbones.forward_pass(network, image[None])))[0]
        for network in (backbone, forgetful(backbone, key))
    ]
    before, after = (stats.entropy(np.histogram(importance, bins=10)[0]) for importance in maps)
    assert float(found) == pytest.approx((after - before) / before, rel=1e-4)
    assert (maps[0] != maps[1]).any()


@pytest.mark.parametrize("order", ["cascading", "independent"])
@pytest.mark.parametrize(("draws", "noise"), [(1, 0.0), (4, 0.1)])
def test_randomization_by_loops(backbone, golden, order, draws, noise):
    """The maps of each network that it looks at, with its parameters, seen from outside."""
    seen, image = [], golden["images"][1]

    def method(forward):
        importance = gradient_x_input(forward)
        jax.debug.callback(lambda *values: seen.append([np.asarray(value) for value in values]),
                           importance, forward.inputs, forward.backbone.params["first"],
                           forward.backbone.params["head"], ordered=True)  # fmt: skip
        return importance

    options = {"order": order, "draws": draws, "noise": noise, "batch_size": 2}
    found = faithfulness.randomization_check(backbone, jax.random.key(1), image, method=method, **options)
    jax.effects_barrier()
    chunks = len(seen) // 3
    networks = [seen[i * chunks : (i + 1) * chunks] for i in range(3)]
    forgot = [[(network[0][place] != golden[name]).any() for place, name in ((2, "first"), (3, "head"))]
              for network in networks]  # fmt: skip
    assert forgot == [[False, False], [False, True], [True, order == "cascading"]]
    maps = [np.concatenate([chunk[0] for chunk in network])[:draws].mean(axis=0) for network in networks]
    expected = [stats.spearmanr(maps[0].ravel(), other.ravel()).statistic for other in maps[1:]]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    copies = np.concatenate([chunk[1] for chunk in networks[0]])[:draws]
    assert np.std(copies - (image - 0.5)) == pytest.approx(noise * np.ptp(image), rel=0.15)


def test_bad_options_are_named(backbone, golden):
    image, key = golden["images"][0], jax.random.key(0)
    unchecked = faithfulness.randomization_check.__wrapped__.__wrapped__
    with pytest.raises(ValueError, match="order: expected 'cascading' or 'independent', got 'upwards'"):
        unchecked(backbone, key, image, method=first_feature, order="upwards")
    with pytest.raises(ValueError, match="draws and noise: expected at least 1 and 0, got 0 and 0"):
        faithfulness.randomization_check(backbone, key, image, method=first_feature, draws=0)
    with pytest.raises(ValueError, match="bins: expected at least 2, got 1"):
        faithfulness.complexity_rise(backbone, key, image, method=first_feature, bins=1)


def test_how_many_images_go_through_the_network(golden):
    """What a score costs, as `mlfem score --help` says it: the images of all forward passes."""
    passed, params = [], {name: jnp.asarray(golden[name]) for name in ("first", "head")}

    def apply(params, inputs):
        jax.debug.callback(lambda _: passed.append(len(inputs)), inputs[0, 0, 0, 0])
        features = inputs @ params["first"]
        return features.mean(axis=(1, 2)) @ params["head"], {"features": features}

    network = mlfem.from_function(apply, params, input_size=SIZE, preprocess=lambda images: images)
    image, importance, key = golden["images"][0], golden["maps"][0], jax.random.key(0)
    check = functools.partial(faithfulness.randomization_check, network, key, image, method=first_feature)
    counted = {
        "irof": lambda: faithfulness.irof(network, image, importance, golden["labels"][0], most=12, target=0),
        "cascading": check,
        "independent": functools.partial(check, order="independent"),
        "smooth": functools.partial(check, draws=4, noise=0.1, batch_size=4),
        "complexity_rise": lambda: faithfulness.complexity_rise(network, key, image, method=first_feature),
        "random_logit": lambda: faithfulness.random_logit(network, key, image, method=first_feature),
    }
    found = {}
    for name, function in counted.items():
        passed.clear()
        jax.block_until_ready(function())
        jax.effects_barrier()
        found[name] = sum(passed)
    # IROF's 13 fill chunks of 4 on two cores; the network has two layers, and is seen whole once.
    assert found.pop("irof") in range(13, 17)
    assert found == {"cascading": 3, "independent": 3, "smooth": 12, "complexity_rise": 2, "random_logit": 1}
