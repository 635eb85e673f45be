"""Any target: several classes, a contrast, a function of the logits; and raw maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax import attribution
from mlfem_jax.attribution.base import only_layer
from mlfem_jax.attribution.cam import eigen_cam
from mlfem_jax.attribution.target import class_score, class_targets, parse_target
from mlfem_jax.backbones import Contrast, LogitFunction, forward_pass
from tests.networks import photographs

SIZE = (8, 8)


def color_network():
    """A layer of ReLUs over 2 x 2 means, then a linear head: every gradient is known."""
    kernel = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    head = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)

    def apply(params, inputs, tap=lambda name, value: value):
        count, height, width, channels = inputs.shape
        means = inputs.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
        features = tap("features", jax.nn.relu(means @ params["kernel"]))
        return features.mean(axis=(1, 2)) @ params["head"], {"features": features}

    return mlfem.from_function(
        apply, {"kernel": kernel, "head": head}, input_size=SIZE,
        preprocess=lambda images: images.astype(jnp.float32) / 255 - 0.5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def network():
    return color_network()


@pytest.fixture(scope="module")
def images():
    return photographs(3, SIZE)


def test_a_contrast_is_the_difference_of_two_maps(network, images):
    of = {t: mlfem.explain(network, images, method="grad_cam", target=t, raw=True) for t in (1, 2, Contrast(1, 2))}
    np.testing.assert_allclose(of[Contrast(1, 2)], of[1] - of[2], atol=1e-6)
    assert of[1].shape == (3, 4, 4) and (np.asarray(of[1]) < 0).any() != (np.asarray(of[1]) > 0).all()


def test_several_classes_are_the_sum_of_their_maps(network, images):
    both = mlfem.explain(network, images, method="gradient_x_input", target=[[0, 3]], raw=True)
    alone = [mlfem.explain(network, images, method="gradient_x_input", target=c, raw=True) for c in (0, 3)]
    np.testing.assert_allclose(both, alone[0] + alone[1], atol=1e-6)


def entropy(logits):
    return -(jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum()


@pytest.mark.parametrize("method", ["grad_cam", "saliency", "integrated_gradients", "occlusion", "score_cam"])
def test_any_function_of_the_logits(network, images, method):
    weights = jnp.array([0.0, 2.0, 0.0, -2.0])
    options = {"window_px": 4, "stride_px": 4, "score": "logit"} if method == "occlusion" else {}
    options |= {"raw": True}
    mine = mlfem.explain(network, images, method=method, target=lambda logits: logits @ weights, **options)
    contrast = mlfem.explain(network, images, method=method, target=Contrast(1, 3), **options)
    if method != "score_cam":  # a softmax over channels is not linear in the score
        np.testing.assert_allclose(mine, 2 * contrast, rtol=1e-4, atol=1e-6)
    assert np.isfinite(mlfem.explain(network, images, method=method, target=entropy, **options)).all()


def test_a_function_of_the_logits_by_finite_differences(network, images):
    raw = mlfem.explain(network, images, method="saliency", target=entropy, raw=True)
    forward = forward_pass(network, images)
    step = 1e-2
    for y, x in ((0, 0), (3, 5)):
        slopes = []
        for color in range(3):
            moved = [forward.inputs.at[0, y, x, color].add(s * step) for s in (1, -1)]
            values = [float(entropy(forward.run(m)[0])) for m in moved]
            slopes.append((values[0] - values[1]) / (2 * step))
        assert raw[0, y, x] == pytest.approx(max(slopes, key=abs), rel=0.05, abs=1e-5)


def test_raw_maps_become_the_shown_ones(network, images):
    for method in ("grad_cam", "hires_cam", "eigen_cam", "fem", "saliency", "lime"):
        if method == "lime":
            pytest.importorskip("skimage")
        options = {"samples": 20, "segments": 4} if method == "lime" else {}
        raw = mlfem.explain(network, images, method=method, raw=True, **options)
        shown = mlfem.explain(network, images, method=method, **options)
        sign = {"saliency": "absolute"}.get(method, "signed" if method in ("fem", "eigen_cam") else "positive")
        expected = attribution.to_maps(attribution.take_sign(raw, sign), SIZE)
        np.testing.assert_allclose(shown, expected, atol=1e-5, err_msg=method)


def test_a_target_passes_through_the_faithfulness_tests(network, images):
    from mlfem_jax import faithfulness

    importance = mlfem.explain(network, images, method="fem")[0]
    options = {"steps": 4, "baseline": "mean", "output": "logit"}
    curve = {t: faithfulness.insertion_curve(network, images[0], importance, target=t, **options) for t in (1, 2)}
    contrast = LogitFunction(Contrast(1, 2))
    difference = faithfulness.insertion_curve(network, images[0], importance, target=contrast, **options)
    np.testing.assert_allclose(difference, curve[1] - curve[2], atol=1e-6)
    both = faithfulness.insertion_curve(network, images[0], importance, target=np.array([1, 2]), **options)
    np.testing.assert_allclose(both, curve[1] + curve[2], atol=1e-6)


def test_targets_of_a_command_line():
    assert parse_target("7") == 7 and parse_target("7,9,11") == [[7, 9, 11]] and parse_target("self") == "self"
    assert parse_target("7-9") == Contrast(7, 9)
    for text in ("", "cat", "7,", "-7", "7-9-11", "7.5"):
        with pytest.raises(ValueError, match="target: expected a class"):
            parse_target(text)


def test_bad_targets_are_named(network):
    with pytest.raises(ValueError, match="target: expected classes from 0 to 3, got Contrast"):
        class_targets(network, Contrast(1, 4), 3)
    with pytest.raises(ValueError, match=r"target: expected a function of .* to one number, got shape"):
        class_targets(network, lambda logits: logits, 3)
    with pytest.raises(ValueError, match="output: expected 'input' for raw maps"):
        mlfem.explain(network, photographs(1, SIZE), method="grad_cam", raw=True, output="photo")
    with pytest.raises(ValueError, match="raw: expected one layer, whose map is not fused, got 2"):
        only_layer([jnp.zeros((1, 2, 2)), jnp.zeros((1, 4, 4))])


def test_functions_of_equal_meaning_share_what_was_compiled():
    assert LogitFunction(Contrast(1, 2)) == LogitFunction(Contrast(1, 2))
    assert hash(Contrast(1, 2)) == hash(Contrast(1, 2))
    assert class_score(jnp.array([[1.0, 4.0]]), LogitFunction(Contrast(1, 0))).tolist() == [3.0]


def test_eigen_cam_centered_is_the_first_principal_component():
    rng = np.random.default_rng(0)  # one component that stands out: the vectors of close ones are not determined
    activation = (rng.random((4, 5, 1)) * rng.random(7) + 0.05 * rng.random((4, 5, 7))).astype(np.float32)
    matrix = activation.reshape(20, 7)
    centered = matrix - matrix.mean(axis=0)
    expected = centered @ np.linalg.svd(centered)[2][0]
    expected *= np.sign((expected * matrix.sum(axis=1)).sum())
    got = np.asarray(eigen_cam(jnp.asarray(activation), center=True))
    np.testing.assert_allclose(got.ravel(), expected, atol=1e-4)
    wide = eigen_cam(jnp.asarray(activation.transpose(2, 0, 1)[:2]), center=True)
    assert np.asarray(wide).sum() == pytest.approx(0, abs=1e-4)
