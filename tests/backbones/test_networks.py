"""Today's networks against torchvision and timm: small ones of each family (oracles/make_network_golden.py)."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mlfem_jax.backbones.architectures import ARCHITECTURES
from mlfem_jax.backbones.networks import (
    convnext,
    densenet,
    efficientnet_lite,
    inception,
    mobile,
    mobile_names,
    regnet,
    swin,
)
from mlfem_jax.backbones.networks.mobile import Block
from mlfem_jax.backbones.registry import load_backbone
from mlfem_jax.backbones.trainable import initial_weights, make_classifier, torch_state_dict
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


@pytest.mark.parametrize("small", ["densenet_torchvision", "mobilenet_torchvision"], indirect=True)
def test_what_is_trained_is_read_back(small, tmp_path):
    """The training form on a file's weights gives its logits; what it writes is the network again, by timm's names."""
    name, golden = small
    backbone = loaded(tmp_path, name, state_dict(golden))
    classifier = make_classifier(name, 5)
    params, statistics = initial_weights(classifier, weights=tmp_path / "w.safetensors")
    if name == "densenet_torchvision":  # whose batch norms stand alone
        inputs = jnp.asarray(synthetic_inputs(tuple(golden["input_shape"])))
        logits, _ = jax.jit(functools.partial(classifier.apply, running=True))(params, statistics, inputs)
        np.testing.assert_allclose(logits, golden["logits"], atol=1e-4 * np.abs(golden["logits"]).max())
    again = loaded(tmp_path, name, torch_state_dict(classifier, params, statistics))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7), again.params,
                 backbone.params)  # fmt: skip


def test_half_precision_other_classes_and_what_does_not_fit(tmp_path, monkeypatch):
    """As for every other network."""
    build = SMALL["swin_torchvision"][1]
    monkeypatch.setitem(ARCHITECTURES, "small", dataclasses.replace(ARCHITECTURES["swin_t"], build=build))
    arrays = state_dict(load_golden("network_swin_torchvision"))
    one = arrays | {"head.weight": arrays["head.weight"][:1], "head.bias": arrays["head.bias"][:1]}
    half = {name: array.astype(np.float16) for name, array in one.items()}
    backbone = loaded(tmp_path, "small", half)
    assert backbone.output == "sigmoid" and set(backbone.signs) == {"two_sided"}
    half = backbone.astype(jnp.bfloat16)
    inputs = jax.ShapeDtypeStruct((2, 40, 24, 3), jnp.bfloat16)
    shapes = jax.eval_shape(half.apply, half.params, inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.bfloat16)}
    grey = arrays | {"features.0.0.weight": arrays["features.0.0.weight"].sum(axis=1, keepdims=True)}
    with pytest.raises(ValueError, match=r"1 of another shape: patch_embed\.proj\.weight \(expected \(8, 3, 4, 4\)"):
        loaded(tmp_path, "small", grey)


def test_lite4_is_lite0_scaled():
    """By 1.4 and 1.8, by hand: 22.4, 33.6, 56, ... channels to multiples of 8; the ends as deep as they were."""
    repeats, _, strides, _, widths = zip(*efficientnet_lite.scaled(1.4, 1.8), strict=True)
    assert repeats == (1, 4, 4, 6, 6, 8, 1) and strides == (1, 2, 2, 2, 1, 2, 1)
    assert widths == (24, 32, 56, 112, 160, 272, 448)
    assert efficientnet_lite.scaled(1.0, 1.0) == efficientnet_lite.STAGES
