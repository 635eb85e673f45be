"""Properties of the explanation methods, on a network small enough to be worked through."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlfem_jax import explain, from_function, fuse, map_batches, methods
from mlfem_jax.attribution import attention, cam, gradient, lrp, mlfem as multilayer, perturbation, reference
from mlfem_jax.attribution.registry import METHODS
from mlfem_jax.backbones.forward import Forward
from mlfem_jax.backbones.hooks import PLAIN
from mlfem_jax.backbones.networks import resnet
from mlfem_jax.fusion.algebra import OPERATORS

FAST = {
    "smooth_grad": {"samples": 3},
    "var_grad": {"samples": 3},
    "integrated_gradients": {"steps": 3},
    "expected_gradients": {"samples": 3},
    "guided_ig": {"steps": 3},
    "xrai": {"steps": 3, "min_size_px": 4, "dilation_px": 0, "least_px": 1},
    "rise": {"samples": 5, "score": "logit"},
    "lime": {"samples": 20, "segments": 16, "score": "logit"},
    "occlusion": {"window_px": 8, "stride_px": 8},
}
NEED_RULES = (
    *("guided_backprop", "deconvnet", "guided_grad_cam", "full_grad", "deep_lift"),
    *("lrp", "attn_lrp", "cp_lrp"),
)
# "net" runs on the network that it was trained for alone: test_learned.py.
OURS = [name for name in METHODS if name not in (*multilayer.METHODS, *NEED_RULES, *attention.METHODS, "net")]
SIZE = (16, 16)


def no_tap(name, activation):
    return activation


def apply(params, inputs, *, tap=no_tap):
    """Two 1x1 layers with ReLUs, the first at half the resolution, and a linear head on the mean."""
    first = tap("first", jax.nn.relu(inputs[:, ::2, ::2] @ params["first"]))
    last = tap("last", jax.nn.relu(first[:, ::2, ::2] @ params["last"]))
    return last.mean(axis=(1, 2)) @ params["head"], OrderedDict(first=first, last=last)


@pytest.fixture(scope="module")
def backbone():
    keys = iter(jax.random.split(jax.random.key(1), 3))
    shapes = {"first": (3, 5), "last": (5, 6), "head": (6, 4)}
    params = {name: jax.random.normal(next(keys), shape) for name, shape in shapes.items()}
    return from_function(apply, params, input_size=SIZE)


@pytest.fixture(scope="module")
def images():
    coarse = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def one(backbone, images, function, **options):
    return np.stack(list(map_batches(backbone, images, function, **options)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("method", OURS)
def test_maps_are_float32_in_unit_range(backbone, images, method, dtype):
    # Hiding superpixels of one color changes the score of the first image alone by more than rounding.
    images = images[:1] if method == "lime" else images
    maps = np.asarray(explain(backbone, images, method=method, dtype=dtype, **FAST.get(method, {})))
    assert maps.shape == (len(images), *SIZE) and maps.dtype == np.float32
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.max(axis=(1, 2)), 1, atol=1e-6)


@pytest.mark.parametrize("method", OURS)
def test_batch_size_changes_nothing(backbone, images, method):
    whole, single = (
        explain(backbone, images, method=method, batch_size=size, **FAST.get(method, {})) for size in (2, 1)
    )
    np.testing.assert_allclose(whole, single, atol=2e-4)


@pytest.mark.parametrize("method", ["grad_cam", "layer_cam", "eigen_cam", "score_cam"])
def test_fusing_one_layer_is_that_layer(backbone, images, method):
    alone = explain(backbone, images, method=method)
    for operator in ("add", "product"):
        fused = explain(backbone, images, method=method, layers=["last"], fuse=operator, alpha=0.3)
        np.testing.assert_array_equal(fused, alone)
    first = explain(backbone, images, method=method, layers="first")
    both = explain(backbone, images, method=method, layers=["first", "last"], fuse="max", normalize="none")
    np.testing.assert_allclose(both, np.maximum(first, alone), atol=1e-6)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("method", cam.METHODS)
def test_cams_of_several_layers_are_fused_by_any_operator(backbone, images, method, operator):
    alone = jnp.stack([explain(backbone, images, method=method, layers=layer) for layer in ("first", "last")], axis=1)
    for normalize in ("end", "none"):
        options = {"alpha": 0.3, "normalize": normalize}
        fused = explain(backbone, images, method=method, layers=["last", "first"], fuse=operator, **options)
        expected = jax.vmap(lambda stack, options=options: fuse(stack, operator=operator, **options))(alone)
        np.testing.assert_allclose(fused, expected, atol=2e-5)


def test_cams_on_arrays_worked_by_hand():
    activation = jnp.array([[[1.0, 0.0], [2.0, 1.0]], [[0.0, 3.0], [1.0, 0.0]]])
    slope = jnp.array([[[1.0, -2.0], [0.0, 2.0]], [[2.0, 0.0], [1.0, -4.0]]])
    # Mean gradients 1 and -1; sums of A G are 1 + 0 + 0 + 1 = 2 and 0 + 2 + 0 + 0 = 2, of A 4 and 4.
    np.testing.assert_allclose(cam.grad_cam(activation, slope), [[1, 1], [-3, 1]], rtol=1e-6)
    np.testing.assert_allclose(cam.hires_cam(activation, slope), [[1, 2], [0, 1]])
    np.testing.assert_allclose(cam.layer_cam(activation, slope), [[1, 2], [0, 1]])
    np.testing.assert_allclose(cam.xgrad_cam(activation, slope), [[0.5, 1.5], [1.5, 0.5]])
    # alpha is 1 / (2 + 4 G) where G is not 0: channel 0 has 1/6 * 1, 1/10 * 2, 1/6 * 1; channel 1 has 1/10 * 2.
    np.testing.assert_allclose(cam.grad_cam_pp(activation, slope), [[8 / 15, 19 / 15], [0.6, 8 / 15]], rtol=1e-5)


@pytest.mark.parametrize("channels", [3, 40])
def test_eigen_cam_is_the_first_component(channels):
    activation = np.random.default_rng(2).uniform(size=(3, 4, channels)).astype(np.float32)
    matrix = activation.reshape(12, channels)
    right = np.linalg.svd(matrix, full_matrices=False)[2][0]
    np.testing.assert_allclose(cam.eigen_cam(jnp.asarray(activation)).ravel(), np.abs(matrix @ right), rtol=1e-4)


def test_targets_travel_with_their_images(backbone, images):
    def logit_gradient(forward):
        return gradient.input_gradient(forward)

    by_class = np.stack([one(backbone, images, logit_gradient, target=index) for index in range(4)])
    np.testing.assert_allclose(
        one(backbone, images, logit_gradient, target=[2, 0, 1], batch_size=2), by_class[[2, 0, 1], range(3)], atol=1e-6
    )
    np.testing.assert_allclose(
        one(backbone, images, logit_gradient, target=[[1, 3]]), by_class[1] + by_class[3], atol=1e-6
    )
    predicted = one(backbone, images, lambda forward: forward.logits).argmax(axis=1)
    np.testing.assert_allclose(one(backbone, images, logit_gradient), by_class[predicted, range(3)], atol=1e-6)
    # d log p_c = d logit_c - sum of p_k d logit_k
    share = jax.nn.softmax(one(backbone, images, lambda forward: forward.logits), axis=1)
    expected = by_class[1] - np.einsum("knhwc,nk->nhwc", by_class, share)
    log = one(backbone, images, lambda f: gradient.input_gradient(f, score="log_probability"), target=1)
    np.testing.assert_allclose(log, expected, atol=1e-5)


def test_integrated_gradients_are_complete(backbone, images):
    _, coarse = zip(*map_batches(backbone, images, lambda f: gradient.integrated_gradients(f, steps=2)), strict=True)
    _, fine = zip(*map_batches(backbone, images, lambda f: gradient.integrated_gradients(f, steps=300)), strict=True)
    assert max(fine) < 1e-2 and sum(fine) < sum(coarse)


def test_smooth_grad_without_noise_is_saliency(backbone, images):
    smooth = explain(backbone, images, method="smooth_grad", noise=0.0)
    np.testing.assert_array_equal(smooth, explain(backbone, images, method="saliency"))
    assert not explain(backbone, images, method="var_grad", noise=0.0).any()


@pytest.mark.parametrize("method", ["smooth_grad", "rise", "lime", "random"])
def test_seed_and_internal_batches(backbone, images, method):
    options, images = FAST.get(method, {}), images[:2]  # no superpixel of the third changes its score
    first, again = (np.asarray(explain(backbone, images, method=method, seed=3, **options)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - explain(backbone, images, method=method, seed=4, **options)).max() > 0.01
    if method != "random":
        bounded = explain(backbone, images, method=method, seed=3, internal_batch_size=3, **options)
        np.testing.assert_allclose(bounded, first, atol=1e-4)


def test_occlusion_by_loops(backbone, images):
    def fallen(forward):
        return perturbation.occlusion_maps(forward, window_px=8, stride_px=8, score="logit")

    found = one(backbone, images[:1], fallen, target=2)[0]
    inputs = np.asarray(jax.jit(backbone.preprocess)(images[:1]))
    whole = backbone.apply(backbone.params, jnp.asarray(inputs))[0][0, 2]
    expected = np.zeros(SIZE)
    for y in (0, 8):
        for x in (0, 8):
            hidden = inputs.copy()
            hidden[:, y : y + 8, x : x + 8] = 0
            fall = whole - backbone.apply(backbone.params, jnp.asarray(hidden))[0][0, 2]
            expected[y : y + 8, x : x + 8] = max(fall, 0)
    expected = (expected - expected.min()) / np.ptp(expected)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_lime_recovers_a_linear_score():
    shown = np.random.default_rng(0).random((400, 6)) < 0.5
    weights = np.array([2.0, -1.0, 0.0, 0.5, 3.0, 0.0])
    exists = np.array([True] * 5 + [False])
    scores = (shown @ weights + 7).astype(np.float32)
    found = perturbation.weighted_ridge(
        jnp.asarray(shown), jnp.asarray(exists), jnp.asarray(scores), kernel_width=0.25, ridge=1e-4
    )
    np.testing.assert_allclose(found, weights, atol=1e-2)


def test_rise_mask_is_shown_half_the_time():
    masks = jax.jit(jax.vmap(lambda key: perturbation.rise_mask(key, (20, 30))))(
        jax.random.split(jax.random.key(0), 500)
    )
    assert masks.min() >= 0 and masks.max() <= 1
    np.testing.assert_allclose(masks.mean(axis=0), 0.5, atol=0.1)


@pytest.mark.parametrize("rule", ["composite", "epsilon", "alpha1_beta0"])
def test_lrp_conserves_the_logit(rule):
    """He-normal weights have no biases, so that nothing is taken."""
    graph, params = nnx.split(resnet.ResNet(resnet.BasicBlock, (1, 1, 1, 1), classes=5, rngs=nnx.Rngs(0)))

    def logit_and_relevance(forward):
        # Epsilon also keeps its share: with 1e-6 that is nothing beside logits of this size.
        return forward.logits.max(axis=1), lrp.relevance(forward, rule=rule).sum(axis=(1, 2, 3))

    def network(params, inputs, *, rules=PLAIN):
        return nnx.merge(graph, params)(inputs, rules=rules)

    backbone = from_function(network, params, input_size=(32, 32))
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    ((logit, total),) = map_batches(backbone, image, logit_and_relevance)
    np.testing.assert_allclose(total, logit, rtol=1e-3)


def test_references(backbone, images):
    inputs = jnp.zeros((1, 5, 7, 3)).at[:, :, 4:].set(1.0)
    forward = Forward(backbone, inputs, jnp.zeros((1, 4)), OrderedDict())
    assert (reference.uniform_maps(forward) == 1).all()
    # Sobel answers on both sides of a vertical edge, equally.
    np.testing.assert_array_equal(reference.edge_maps(forward)[0], np.tile([0, 0, 0, 1, 1, 0, 0], (5, 1)))
    center = np.asarray(reference.center_maps(forward)[0])
    assert center[2, 3] == 1
    np.testing.assert_allclose(center, center[::-1, ::-1], atol=1e-6)
    noise = np.asarray(explain(backbone, images, method="random"))
    assert np.abs(noise[0] - noise[1]).max() > 0.5


def test_impossible_requests_say_what_is_possible(backbone, images):
    untapped = from_function(lambda params, inputs: apply(params, inputs), backbone.params, input_size=SIZE)
    with pytest.raises(ValueError, match="does not take `tap`"):
        explain(untapped, images, method="grad_cam")
    assert explain(untapped, images, method="saliency").shape == (3, *SIZE)
    for method in NEED_RULES:
        with pytest.raises(ValueError, match="The networks of load_backbone have them"):
            explain(backbone, images, method=method)
    with pytest.raises(ValueError, match="expected some of the 2 layers first, last, got 'middle'"):
        explain(backbone, images, method="grad_cam", layers="middle")
    with pytest.raises(ValueError, match="fuse: expected one of max, add, top, fem, mean, product, got 'net'"):
        explain(backbone, images, method="grad_cam", fuse="net")
    with pytest.raises(ValueError, match="normalize: expected 'end', 'each' or 'none', got 'start'"):
        explain(backbone, images, method="grad_cam", normalize="start")
    with pytest.raises(ValueError, match=r"method 'saliency': expected options among .*, got layers$"):
        explain(backbone, images, method="saliency", layers="last")
    with pytest.raises(ValueError, match="target: expected none, since 'fem' explains no particular class, got 1"):
        explain(backbone, images, method="fem", target=1)
    with pytest.raises(ValueError, match="classes from 0 to 3, got 4"):
        explain(backbone, images, method="saliency", target=4)
    with pytest.raises(ValueError, match="got 2 for 3 images"):
        explain(backbone, images, method="saliency", target=[1, 2])
    for option in ({"sign": "up"}, {"score": "odds"}):
        with pytest.raises(ValueError, match=f"{next(iter(option))}: expected"):
            explain(backbone, images, method="saliency", **option)
    assert set(NEED_RULES) < set(methods())
