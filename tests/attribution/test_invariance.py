"""A map is that of its image: whatever the batch that it came in, and whatever JAX's default number type."""

import jax
import numpy as np
import pytest

from mlfem_jax import explain, from_function
from mlfem_jax.attribution import registry
from tests.attribution import test_edge_cases
from tests.attribution.test_edge_cases import ALL, SIZE
from tests.attribution.test_methods import FAST

NOTHING_IS_DRAWN = ("ablation_cam", "guided_grad_cam", "full_grad", "deep_lift", "guided_ig", "xrai")
PERTURBATIONS = ("occlusion", "rise", "lime")


backbone = test_edge_cases.backbone


@pytest.fixture(scope="module")
def photos():
    """Squares of one color with a little noise: SLIC finds superpixels."""
    rng = np.random.default_rng(3)
    squares, noise = (rng.integers(0, most, (6, side, side, 3), dtype=np.uint8) for most, side in ((225, 4), (30, 16)))
    return squares.repeat(4, axis=1).repeat(4, axis=2) + noise


def maps_of(backbone, photos, method, **options):
    return np.asarray(explain(backbone, photos, method=method, **FAST.get(method, {}), **options))


def slow_to_move(backbone):
    """The network with logits that hardly depend on the image, so that min-max stretches their last bits."""
    import jax.numpy as jnp

    def apply(params, inputs):
        logits, activations = backbone.apply(params, inputs)
        return jnp.float32(0.02) * logits + jnp.float32([1, 0, 0, 0, 0])[None], activations

    return from_function(apply, backbone.params, input_size=SIZE)


@pytest.mark.parametrize("method", PERTURBATIONS)
def test_a_map_does_not_depend_on_its_batch(backbone, photos, method):
    network = slow_to_move(backbone)
    whole = maps_of(network, photos, method, batch_size=6)
    assert whole.max() > 0.99
    for batch_size in (1, 4):
        np.testing.assert_allclose(maps_of(network, photos, method, batch_size=batch_size), whole, atol=1e-6)


@pytest.mark.parametrize("method", [name for name in ALL if name not in NOTHING_IS_DRAWN])
def test_numbers_of_64_bits_draw_the_same(backbone, photos, method):
    expected = maps_of(backbone, photos[:2], method)
    with jax.enable_x64(True):
        found = maps_of(backbone, photos[:2], method)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_all_methods_are_tried():
    assert {*ALL, "net", *registry.FAMILIES["Attention"]} == registry.METHODS.keys()
