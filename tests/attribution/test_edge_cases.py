"""bfloat16, and networks that see nothing, for every method; the network takes taps and other backward rules."""

import dataclasses
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlfem_jax import explain, from_function
from mlfem_jax.attribution.registry import FAMILIES, METHODS
from mlfem_jax.attribution.target import moves
from mlfem_jax.backbones.hooks import PLAIN, no_tap
from mlfem_jax.backbones.networks.layers import Conv, Linear, mean_pool
from tests.attribution.test_methods import FAST

SIZE = (16, 16)
# "net" runs on the network that it was trained for alone: test_learned.py.
ALL = [name for name in METHODS if name != "net" and name not in FAMILIES["Attention"]]  # test_attention.py
SEE_THE_NETWORK = [name for name in ALL if name not in FAMILIES["References"]]
# A gradient at the input changes sign with single ReLUs, and a bfloat16 forward switches some of them; hiding one of
# these superpixels changes the score by a few bfloat16 steps.
GRADIENTS = ("saliency", "gradient_x_input", "smooth_grad", "integrated_gradients")
CORRELATION = dict.fromkeys(GRADIENTS, 0.7) | {"lime": 0.5}


class Residual(nnx.Module):
    def __init__(self, *, rngs):
        self.first, self.second = Conv(3, 8, 3, stride=2, rngs=rngs), Conv(8, 8, 3, rngs=rngs)
        self.fc = Linear(8, 5, rngs=rngs)

    def __call__(self, inputs, *, tap=no_tap, rules=PLAIN):
        first = tap("first", rules.relu6(self.first(inputs, rules.first)))
        last = tap("last", rules.relu(rules.add(self.second(first, rules.conv), first)))
        return self.fc(rules.average(mean_pool, last), rules.dense), OrderedDict(first=first, last=last)


@pytest.fixture(scope="module")
def backbone():
    graph, params = nnx.split(Residual(rngs=nnx.Rngs(0)))

    def apply(params, inputs, *, tap=no_tap, rules=PLAIN):
        return nnx.merge(graph, params)(inputs, tap=tap, rules=rules)

    return from_function(apply, params, input_size=SIZE)


@pytest.fixture(scope="module")
def images():
    """Squares of one color with noise on them; in the second, SLIC finds several superpixels."""
    rng = np.random.default_rng(0)
    squares, noise = (rng.integers(0, 128, (2, side, side, 3), dtype=np.uint8) for side in (4, 16))
    return squares.repeat(4, axis=1).repeat(4, axis=2) + noise


def maps_of(backbone, images, method, **options):
    return np.asarray(explain(backbone, images, method=method, **FAST.get(method, {}), **options))


@pytest.mark.parametrize("method", ALL)
def test_bfloat16_gives_nearly_the_same_map(backbone, images, method):
    images = images[1:] if method == "lime" else images
    target = {"target": 1} if METHODS[method].of_class else {}
    exact, rounded = (maps_of(backbone, images, method, dtype=dtype, **target) for dtype in (jnp.float32, jnp.bfloat16))
    assert rounded.dtype == np.float32 and rounded.min() >= 0 and rounded.max() <= 1
    if method not in ("uniform", "random"):  # a constant; noise drawn from the rounded image
        correlations = [
            np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(exact, rounded, strict=True)
        ]
        assert min(correlations) > CORRELATION.get(method, 0.9), correlations


@pytest.mark.parametrize("method", SEE_THE_NETWORK)
@pytest.mark.parametrize("factor", [0.0, np.nan], ids=["all zeros", "NaN"])
def test_a_network_that_sees_nothing_gives_blank_maps(backbone, images, method, factor):
    params = jax.tree.map(lambda leaf: leaf * jnp.float32(factor), backbone.params)
    assert not maps_of(dataclasses.replace(backbone, params=params), images[:1], method).any()


@pytest.mark.parametrize("method", ["lime", "rise", "occlusion"])
def test_what_never_changes_the_score_is_blank(images, method):
    """The mean square of the image is added to numbers beside which it is lost, or is not."""

    def apply(params, inputs):
        power = (inputs**2).mean(axis=(1, 2))
        return power * params + jnp.array([[7.1, 1.3, 0.2]]), {"image": inputs}

    images = images[1:] if method == "lime" else images
    small, large = (from_function(apply, jnp.float32(size), input_size=SIZE) for size in (1e-7, 1e-2))
    for backbone, highest in ((small, 0), (large, 1)):
        maps = maps_of(backbone, images, method, **({"score": "logit"} if method == "occlusion" else {}))
        np.testing.assert_allclose(maps.max(axis=(1, 2)), highest, atol=1e-6)


def test_rounding_of_scores():
    logits = jnp.array([[0.0, 10.0]])  # known to 2.4e-6
    probability = lambda p: jnp.array([[p], [p + 1e-6]])  # noqa: E731
    assert not moves(jnp.array([[1.0], [1.0 + 2e-6]]), logits, "logit").any()
    assert moves(jnp.array([[1.0], [1.0 + 1e-5]]), logits, "logit").all()
    # Twice p (1 - p) times that: 1.2e-6 at one half, 2.4e-8 at 0.005.
    assert not moves(probability(0.5), logits, "probability").any()
    assert moves(probability(0.005), logits, "probability").all()
    assert not moves(jnp.array([[jnp.nan], [1.0]]), logits, "logit").any()
