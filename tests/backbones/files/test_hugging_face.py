"""Folders of transformers: small networks of its families, what is refused (oracles/make_hugging_face_golden.py)."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from mlfem_jax.backbones.architectures import ARCHITECTURES
from mlfem_jax.backbones.files.hugging_face import check_config
from mlfem_jax.backbones.networks import convnext, regnet, resnet, swin, swin_names
from mlfem_jax.backbones.registry import load_backbone, network_arrays
from tests.backbones.test_golden import assert_agrees, load_golden
from tests.synthetic_weights import network_weight, synthetic_inputs

SWIN = swin.Swin(8, (2, 1), (1, 2), window=3)
SWIN_SAID = {"embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2], "window_size": 3}
NEXT_SAID = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 2, 1, 1]}
REGNET_SAID = {"hidden_sizes": [16, 24], "depths": [1, 2], "groups_width": 8}
next_net = functools.partial(convnext.ConvNeXt, (1, 2, 1, 1), (8, 12, 16, 20))
SMALL = {
    "swin": ("swin_t", functools.partial(swin.SwinTransformer, SWIN), SWIN_SAID),
    "swinv2": (
        "swin_v2_t", functools.partial(swin.SwinTransformer, dataclasses.replace(SWIN, second=True)), SWIN_SAID
    ),
    "convnext": ("convnext_tiny", next_net, NEXT_SAID),
    "convnextv2": ("convnextv2_tiny", functools.partial(next_net, response=True), NEXT_SAID),
    "resnet_basic": (
        "resnet18", functools.partial(resnet.ResNet, resnet.BasicBlock, (1, 2, 1, 1)), {"depths": [1, 2, 1, 1]}
    ),
    "resnet_bottleneck": (
        "resnet50", functools.partial(resnet.ResNet, resnet.Bottleneck, (1, 1, 1, 1)), {"depths": [1, 1, 1, 1]}
    ),
    "regnet_x": (
        "regnet_x_400mf", functools.partial(regnet.RegNet, regnet.Stages((1, 2), (16, 24), (8, 8))), REGNET_SAID
    ),
    "regnet_y": (
        "regnet_y_400mf",
        functools.partial(regnet.RegNet, regnet.Stages((1, 2), (16, 24), (8, 8), gated=True)), REGNET_SAID
    ),
}  # fmt: skip


@pytest.fixture
def small(monkeypatch, request):
    """A golden file, and the name by which `load_backbone` knows the small network."""
    name, build, said = SMALL[request.param]
    architecture = ARCHITECTURES[name]
    small = dataclasses.replace(architecture, build=build, config=architecture.config | said)
    monkeypatch.setitem(ARCHITECTURES, request.param, small)
    return request.param, load_golden(f"hugging_face_{request.param}")


def arrays_of(golden):
    shapes = json.loads(golden["state_dict"].item())
    return {name: network_weight(name, tuple(shape)) for name, shape in shapes.items()}


def folder_of(folder, golden, *, arrays=None, **said):
    """As `save_pretrained` writes it, with other entries in its config.json."""
    config = json.loads(golden["config"].item()) | said
    (folder / "config.json").write_text(json.dumps(config))
    arrays = arrays_of(golden) if arrays is None else arrays
    safetensors.numpy.save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("small", SMALL, indirect=True)
def test_logits_blocks_and_labels_of_a_folder(small, tmp_path):
    name, golden = small
    backbone = load_backbone(name, folder_of(tmp_path, golden))
    logits, activations = jax.jit(backbone.apply)(backbone.params, synthetic_inputs(tuple(golden["input_shape"])))
    assert_agrees(golden, backbone, np.asarray(logits), {key: np.asarray(value) for key, value in activations.items()})
    assert backbone.labels == tuple("abcde")


@pytest.mark.parametrize("small", ["swin"], indirect=True)
def test_shards_and_the_names_that_it_has_in_memory(small, tmp_path):
    name, golden = small
    arrays = arrays_of(golden)
    expected, _ = network_arrays(name, folder_of(tmp_path, golden))
    (tmp_path / "model.safetensors").unlink()
    shards = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    for entry, array in arrays.items():
        shards[f"model-0000{1 + ('query' in entry)}-of-00002.safetensors"][entry] = array
    for file, shard in shards.items():
        safetensors.numpy.save_file(shard, tmp_path / file)
    index = {"weight_map": {entry: file for file, shard in shards.items() for entry in shard}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found, _ = network_arrays(name, tmp_path)
    memory = {}
    for entry, array in arrays.items():
        for theirs, other in [
            ("attention.output.dense", "attention.o_proj"), ("attention.self.query", "attention.q_proj"),
            ("attention.self.key", "attention.k_proj"), ("attention.self.value", "attention.v_proj"),
            ("attention.self.relative", "attention.relative_position_bias.relative"),
            ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"),
        ]:  # fmt: skip
            entry = entry.replace(theirs, other)
        memory[entry] = array
    in_memory = swin_names.canonical(memory)
    assert found.keys() == in_memory.keys() == expected.keys()
    for entry, array in expected.items():
        np.testing.assert_array_equal(found[entry], array)
        np.testing.assert_array_equal(in_memory[entry], array)


@pytest.mark.parametrize(
    ("small", "said", "message"),
    [
        ("swinv2", {"window_size": 16}, r"window_size 3, got window_size 16; no network here is that; the"),
        (
            "swinv2",
            {"pretrained_window_sizes": [12] * 4},
            r"got pretrained_window_sizes \[12, 12, 12, 12\]; no",
        ),
        (
            "resnet_bottleneck",
            {"downsample_in_bottleneck": True},
            r"downsample_in_bottleneck false, got down\w+ true; ",
        ),
        (
            "resnet_basic",
            {"depths": [2, 2, 2, 2]},
            r"depths \[1, 2, 1, 1\], got depths \[2, .*; load it as resnet18",
        ),
        ("regnet_x", {"layer_type": "y"}, r'layer_type "x", got layer_type "y"; '),
        (
            "convnext",
            {"model_type": "convnextv2"},
            r"got transformers' convnextv2; no network here is that; the nearest is convnextv2",
        ),
        ("convnext", {"hidden_act": "relu"}, r'hidden_act "gelu", got hidden_act "relu"; no network here is that; '),
    ],
    indirect=["small"],
)
def test_another_network_of_the_family_is_refused(small, said, message, tmp_path):
    name, golden = small
    with pytest.raises(ValueError, match=rf"^{tmp_path}: expected {name}[ ,].*{message}"):
        load_backbone(name, folder_of(tmp_path, golden, **said))


@pytest.mark.parametrize("small", ["resnet_basic"], indirect=True)
def test_kinds_that_are_not_known(small, tmp_path):
    name, golden = small
    network_arrays(name, folder_of(tmp_path, golden, model_type="mine"))  # one's own, with names that fit
    other = {f"efficientnet.{index}.weight": np.ones((1, 1), np.float32) for index in range(3)}
    with pytest.raises(ValueError, match=r"got transformers' efficientnet; the nearest name is efficientnet_v2_\w"):
        network_arrays(name, folder_of(tmp_path, golden, arrays=other, model_type="efficientnet"))
    with pytest.raises(ValueError, match=r"missing: conv1\.weight"):  # of the kind that is asked for: its arrays tell
        load_backbone(name, folder_of(tmp_path, golden, arrays=other))


@pytest.mark.parametrize("wrapper", [{}, {"model_type": "timm_wrapper"}])
def test_timm_says_the_window_in_a_name(tmp_path, wrapper):
    config = {"architecture": "swinv2_tiny_window16_256", "num_classes": 1000} | wrapper
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="expected swin_v2_t with window_size 8, got window_size 16; no"):
        load_backbone("swin_v2_t", tmp_path)


def test_what_a_config_does_not_say_is_as_expected():
    known = {name: architecture.config for name, architecture in ARCHITECTURES.items()}
    for name, config in known.items():
        check_config(name, config, known)
        check_config(name, {}, known)
    with pytest.raises(ValueError, match="expected vgg16, got transformers' resnet; load it as resnet34"):
        check_config("vgg16", known["resnet34"], known)
    with pytest.raises(ValueError, match=r"expected swin_t with .*; load it as swin_s"):
        check_config("swin_t", known["swin_s"], known)
