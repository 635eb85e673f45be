"""bfloat16, blank and broken networks, for every method, on a small ResNet that takes taps and other backward rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlfem_jax import explain, from_function
from mlfem_jax.attribution.target import moves
from mlfem_jax.backbones import resnet
from mlfem_jax.backbones.rules import PLAIN, no_tap
from mlfem_jax.methods import FAMILIES, METHODS
from tests.attribution.test_methods import FAST

SIZE = (32, 32)
# "net" runs on the network that it was trained for alone: test_net.py.
ALL = [name for name in METHODS if name != "net"]
SEE_THE_NETWORK = [name for name in ALL if name not in FAMILIES["References"]]
# A gradient at the input changes sign with single ReLUs, and a bfloat16 forward switches some of them.
CORRELATION = dict.fromkeys(("saliency", "gradient_x_input", "smooth_grad", "integrated_gradients", "lime"), 0.7)


@pytest.fixture(scope="module")
def backbone():
    graph, params = nnx.split(resnet.ResNet(resnet.BasicBlock, (1, 1, 1, 1), classes=5, rngs=nnx.Rngs(0)))

    def apply(params, inputs, *, tap=no_tap, rules=PLAIN):
        return nnx.merge(graph, params)(inputs, tap=tap, rules=rules)

    return from_function(apply, params, input_size=SIZE)


@pytest.fixture(scope="module")
def images():
    coarse = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def scaled(backbone, factor):
    return from_function(
        backbone.apply, jax.tree.map(lambda leaf: leaf * jnp.float32(factor), backbone.params), input_size=SIZE
    )


def maps_of(backbone, images, method, **options):
    early = {"layers": "layer2.0"} if method == "fem" or method in FAMILIES["Class activation maps"] else {}
    return np.asarray(explain(backbone, images, method=method, **early, **FAST.get(method, {}), **options))


@pytest.mark.parametrize("method", ALL)
def test_bfloat16_gives_nearly_the_same_map(backbone, images, method):
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
    assert not maps_of(scaled(backbone, factor), images[:1], method).any()


@pytest.mark.parametrize("method", ["lime", "rise", "occlusion"])
def test_what_never_changes_the_score_is_blank(images, method):
    """The network adds up three numbers of which one is the mean of the image, too small to be more than rounding."""

    def apply(params, inputs):
        mean = inputs.mean(axis=(1, 2))
        return mean * params + jnp.array([[7.1, 1.3, 0.2]]).astype(inputs.dtype), {"image": inputs}

    small, large = (from_function(apply, jnp.float32(size), input_size=SIZE) for size in (1e-7, 1e-3))
    assert not maps_of(small, images, method).any()
    assert maps_of(large, images, method).max(axis=(1, 2)).tolist() == pytest.approx([1, 1])


def test_rounding_of_scores():
    logits = jnp.array([[0.0, 10.0]])  # known to 2.4e-6
    probability = lambda p: jnp.array([[p], [p + 1e-6]])  # noqa: E731
    assert not moves(jnp.array([[1.0], [1.0 + 2e-6]]), logits, "logit").any()
    assert moves(jnp.array([[1.0], [1.0 + 1e-5]]), logits, "logit").all()
    # Twice p (1 - p) times that: 1.2e-6 at one half, 2.4e-8 at 0.005.
    assert not moves(probability(0.5), logits, "probability").any()
    assert moves(probability(0.005), logits, "probability").all()
    assert not moves(jnp.array([[jnp.nan], [1.0]]), logits, "logit").any()
