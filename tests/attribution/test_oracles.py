"""Our explanations against those of captum, grad-cam and zennit on the same weights: golden/attribution_*.npz."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from mlfem_jax.attribution import cam, gradient, lrp
from mlfem_jax.backbones.forward import Forward
from mlfem_jax.backbones.registry import load_backbone
from tests.synthetic_weights import synthetic_inputs, synthetic_state_dict

GOLDEN = Path(__file__).parent.parent / "golden"
PLACES = 4000
CAMS = ("grad_cam", "grad_cam_pp", "layer_cam", "hires_cam", "xgrad_cam")
LAYERS = {
    "resnet18": ("layer2.1", "layer4.1"),
    "efficientnet_lite0": ("blocks.5", "head"),
}


def correlations(found, expected):
    """Pearson's, image by image."""
    pairs = zip(found.reshape(len(found), -1), expected.reshape(len(expected), -1), strict=True)
    return [np.corrcoef(one, other)[0, 1] for one, other in pairs]


def sample(attribution):
    flat = np.asarray(attribution).reshape(len(attribution), -1)
    return flat[:, np.linspace(0, flat.shape[1] - 1, PLACES).astype(np.int64)]


def gradients(forward):
    plain = gradient.input_gradient(forward)
    return {
        "saliency": jnp.abs(plain),
        "gradient_x_input": plain * forward.inputs,
        "integrated_gradients": gradient.integrated_gradients(forward, steps=8)[0],
        "guided_backprop": gradient.modified_gradient(forward, rule="guided"),
        "deconvnet": gradient.modified_gradient(forward, rule="deconvnet"),
    }


def cams(forward, layers):
    found = cam.layer_gradients(forward, layers)
    return {
        f"{name}/{layer}": jax.vmap(getattr(cam, name))(forward.activations[layer], found[layer])
        for name in CAMS
        for layer in layers
    }


def relevances(forward, rules):
    firsts = {"composite": "z_box", "epsilon": "same", "alpha1_beta0": "same"}
    return {f"lrp/{rule}": lrp.relevance(forward, rule=rule, first=firsts[rule]) for rule in rules}


def assert_agree(name, backbone, inputs, explanations):
    with np.load(GOLDEN / f"attribution_{name}.npz") as file:
        golden = dict(file)

    @jax.jit
    def run(params, inputs):
        given = dataclasses.replace(backbone, params=params)  # else XLA takes a minute over VGG's half gigabyte
        logits, activations = given.apply(params, inputs)
        return logits, explanations(Forward(given, inputs, logits, activations))

    logits, found = run(backbone.params, inputs)
    assert logits.argmax(axis=1).tolist() == golden["classes"][: len(inputs)].tolist()
    for key, values in found.items():
        expected = golden[key][: len(inputs)]
        values = np.asarray(values) if "cam" in key else sample(values)
        assert min(correlations(values, expected)) > 0.999, key
        # Not only up to a factor, but for Grad-CAM++, to whose denominator grad-cam adds an epsilon.
        if not key.startswith("grad_cam_pp"):
            assert np.abs(values - expected).max() < 0.02 * np.abs(expected).max(), key


def synthetic_backbone(name, folder):
    with np.load(GOLDEN / f"{name}.npz") as file:
        shapes = json.loads(file["state_dict"].item())
    safetensors.numpy.save_file(synthetic_state_dict(shapes), folder / "weights.safetensors")
    return load_backbone(name, weights=folder / "weights.safetensors")


def test_resnet(tmp_path, optimized):
    backbone = synthetic_backbone("resnet18", tmp_path)
    inputs = jnp.asarray(synthetic_inputs((2, 64, 64, 3)))
    assert_agree("resnet18", backbone, inputs, lambda forward: gradients(forward) | cams(forward, LAYERS["resnet18"]))
    assert_agree("resnet18", backbone, inputs[:1], lambda forward: relevances(forward, ["epsilon", "alpha1_beta0"]))


def test_vgg(tmp_path):
    backbone = synthetic_backbone("vgg16", tmp_path)
    inputs = jnp.asarray(synthetic_inputs((1, 64, 64, 3)))
    assert_agree("vgg16", backbone, inputs, lambda forward: relevances(forward, ["composite"]))


def test_efficientnet_on_photographs(efficientnet):
    data = pytest.importorskip("skimage.data")
    photos = [
        Image.fromarray(photo()).resize((224, 224), Image.Resampling.BILINEAR) for photo in (data.coffee, data.chelsea)
    ]
    inputs = jax.jit(efficientnet.preprocess)(np.stack([np.asarray(photo) for photo in photos]))
    layers = LAYERS["efficientnet_lite0"]
    assert_agree("efficientnet_lite0", efficientnet, inputs, lambda forward: gradients(forward) | cams(forward, layers))
