"""Today's networks against torchvision and timm: small ones of each family (oracles/make_network_golden.py)."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from mlfem_jax.backbones.architectures import ARCHITECTURES
from mlfem_jax.backbones.networks import (
    convnext,
    densenet,
    inception,
    mobile,
    mobile_names,
    regnet,
    swin,
)
from mlfem_jax.backbones.networks.mobile import Block
from mlfem_jax.backbones.registry import load_backbone
from tests.backbones.test_golden import assert_agrees, load_golden
from tests.synthetic_weights import network_weight, synthetic_inputs

SWIN = swin.Swin(8, (2, 1), (1, 2), window=3)
MOBILE = mobile.Mobile(
    8,
    ((Block(3, 2, 8, 8, 8, "relu"),), (Block(5, 1, 24, 16, 8, "hard_swish"), Block(3, 1, 24, 16, 0, "hard_swish"))),
    96, 16, "hard_swish", ("relu", "hard_sigmoid"),
)  # fmt: skip
EFFICIENT = mobile.Mobile(
    8,
    ((Block(3, 1, 8, 8, fused=True),), (Block(3, 2, 32, 16, fused=True),),
     (Block(3, 2, 64, 24, 4), Block(3, 1, 96, 24, 6))),
    32, padding="same",
)  # fmt: skip
KINDS = {"Mixed_5b": inception.module_a(32), "Mixed_6a": inception.MODULE_B, "Mixed_6b": inception.module_c(128),
         "Mixed_7a": inception.MODULE_D, "Mixed_7b": inception.MODULE_E}  # fmt: skip
SMALL = {
    "convnext_torchvision": ("convnext_tiny", functools.partial(convnext.ConvNeXt, (1, 2), (8, 12))),
    "convnextv2_timm": (
        "convnextv2_tiny",
        functools.partial(convnext.ConvNeXt, (1, 1, 1, 1), (8, 12, 16, 20), response=True),
    ),
    "swin_torchvision": ("swin_t", functools.partial(swin.SwinTransformer, SWIN)),
    "swinv2_torchvision": (
        "swin_v2_t",
        functools.partial(swin.SwinTransformer, dataclasses.replace(SWIN, second=True)),
    ),
    "mobilenet_torchvision": ("mobilenet_v3_small", functools.partial(mobile.MobileNet, MOBILE)),
    "efficientnet_timm": ("tf_efficientnetv2_s", functools.partial(mobile.MobileNet, EFFICIENT)),
    "regnet_torchvision": (
        "regnet_y_400mf",
        functools.partial(regnet.RegNet, regnet.Stages((1, 2), (16, 24), (8, 8), gated=True)),
    ),
    "densenet_torchvision": ("densenet121", functools.partial(densenet.DenseNet, 4, (2, 2), 8)),
    "inception_torchvision": ("inception_v3", functools.partial(inception.Inception, KINDS)),
}
CONFIGS = {"mobilenet_torchvision": MOBILE, "efficientnet_timm": EFFICIENT}


@pytest.fixture
def small(monkeypatch, request):
    """A golden file, and the name by which `load_backbone` knows the small network."""
    name, build = SMALL[request.param]
    config = CONFIGS.get(request.param)
    names = {} if config is None else {
        field: functools.partial(getattr(mobile_names, function), config=config)
        for field, function in (("torch_names", "torch_names"), ("canonical", "canonical"), ("renamed", "renamed"))
    }  # fmt: skip
    small = dataclasses.replace(ARCHITECTURES[name], build=build, **names)
    monkeypatch.setitem(ARCHITECTURES, request.param, small)
    return request.param, load_golden(f"network_{request.param}")


def state_dict(golden):
    shapes = json.loads(golden["state_dict"].item())
    return {name: network_weight(name, tuple(shape)) for name, shape in shapes.items()}


def loaded(tmp_path, name, arrays):
    safetensors.numpy.save_file({key: np.ascontiguousarray(a) for key, a in arrays.items()}, tmp_path / "w.safetensors")
    return load_backbone(name, tmp_path / "w.safetensors")


@pytest.mark.parametrize("small", SMALL, indirect=True)
def test_logits_and_every_block_agree_on_odd_sizes(small, tmp_path):
    name, golden = small
    backbone = loaded(tmp_path, name, {f"net.{key}": array for key, array in state_dict(golden).items()})
    inputs = synthetic_inputs(tuple(golden["input_shape"]))
    logits, activations = jax.jit(backbone.apply)(backbone.params, inputs)
    assert_agrees(golden, backbone, np.asarray(logits), {key: np.asarray(value) for key, value in activations.items()})
    below = [layer for layer, activation in activations.items() if activation.min() < 0]
    assert [layer for layer in below if backbone.sign(layer) == "as_is"] == []
