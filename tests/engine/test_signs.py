"""The warning where FEM sees activations below zero, and nobody said what that should mean."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import explain, from_function, load_backbone

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def network(**options):
    """Layer "above" is the image, "below" its negative, "late" goes below zero in the fourth image alone."""

    def apply(params, inputs):
        late = jnp.where(inputs[:, :1, :1, :1] > 4, -inputs, inputs)
        layers = {"above": inputs, "below": -inputs, "late": late}
        return inputs.mean(axis=(1, 2)), {name: layer * params for name, layer in layers.items()}

    def preprocess(images):
        return jnp.asarray(images, jnp.float32) / 255

    return from_function(apply, jnp.ones(()), input_size=(8, 8), preprocess=preprocess, **options)


def test_it_names_the_layers_and_comes_once():
    with pytest.warns(UserWarning, match="below zero in the layers below: FEM") as caught:
        explain(network(), IMAGES, method="add", batch_size=2)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("add", {"sign": "as_is"}),
        ("add", {"sign": "two_sided"}),
        ("add", {"layers": "above"}),
        ("max", {"layers": ["above", "late"]}),
        ("fem", {}),
        ("grad_cam", {}),
        ("edge", {}),
    ],
)
def test_who_chose_or_sees_nothing_below_zero_hears_nothing(method, options):
    backbone = load_backbone("resnet18", weights="random") if method == "grad_cam" else network()
    images = IMAGES if method != "grad_cam" else np.zeros((1, 32, 32, 3), np.uint8)
    explain(backbone, images, method=method, **options)


def test_the_backbone_chooses_by_layer():
    chosen, options = network(signs=("as_is", "two_sided", "as_is")), {"k": 1.0}  # uniform noise ends at 1.7 deviations
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explain(chosen, IMAGES, method="max", normalize="none", **options)
        one_for_all = explain(network(signs="two_sided"), IMAGES, method="max", normalize="none", **options)
    by_hand = [explain(network(), IMAGES, method="fem", layers=layer, sign=sign, **options)
               for layer, sign in (("above", "as_is"), ("below", "two_sided"), ("late", "as_is"))]  # fmt: skip
    np.testing.assert_allclose(found, np.max(by_hand, axis=0), atol=1e-6)
    assert np.abs(np.asarray(found) - np.asarray(one_for_all)).max() > 0.1


def test_maps_are_the_same_with_and_without_the_warning():
    with pytest.warns(UserWarning, match="below zero"):
        warned = explain(network(), IMAGES, method="mean", k=1.0, batch_size=2)
    assert np.asarray(warned).any()
    np.testing.assert_array_equal(warned, explain(network(signs="as_is"), IMAGES, method="mean", k=1.0, batch_size=2))


def test_signs_are_checked():
    with pytest.raises(ValueError, match="signs: expected one for each of 3 layers, got 2"):
        network(signs=("as_is", "relu"))
    with pytest.raises(ValueError, match="sign: expected one of as_is, relu, two_sided, got 'both'"):
        explain(network(), IMAGES, method="fem", sign="both")
