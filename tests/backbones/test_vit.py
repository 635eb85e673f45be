"""Vision transformers against golden files of timm, torchvision and transformers (oracles/make_vit_golden.py)."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import backbone_names, explain, load_backbone
from mlfem_jax.backbones.files.fit import check_weights
from mlfem_jax.backbones.networks import vit, vit_names
from mlfem_jax.backbones.networks.vit import ViT
from mlfem_jax.backbones.towers import TOWERS, Tower, random_arrays, tower_backbone
from tests.synthetic_weights import centered, synthetic_inputs, uniform

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = ViT(patch=8, width=16, depth=2, heads=2, hidden=32, size=32)
REGISTERS = {"prefix": ("cls", "registers"), "registers": 4, "antialias": True}
DINOV3 = {"scaled": True, "prefix": ("cls", "registers"), "registers": 4, "rotary": 100.0, "epsilon": 1e-5}
CONFIGS = {
    "torchvision": {},
    "timm": {"antialias": True},
    "timm_mean": {"prefix": (), "pool": "mean", "norm": "behind", "antialias": True},
    "timm_distilled": {"prefix": ("cls", "dist"), "pool": "distilled", "antialias": True},
    "timm_dinov2_registers": {"scaled": True, **REGISTERS},
    "timm_dinov2_gated": {"scaled": True, "gated": True, "antialias": True},
    "timm_siglip": {"prefix": (), "pool": "map", "gelu": "tanh", "antialias": True},
    "timm_clip": {"pre_norm": True, "gelu": "quick", "epsilon": 1e-5, "antialias": True},
    "hf_vit": {"epsilon": 1e-12},
    "hf_deit": {"prefix": ("cls", "dist"), "pool": "distilled", "epsilon": 1e-12},
    "hf_dinov2": {"scaled": True, "pool": "cls_mean"},
    "hf_dinov2_registers_gated": {"scaled": True, "gated": True, "hidden": 24, **REGISTERS},
    "hf_dinov3": DINOV3,
    "hf_dinov3_gated": {"gated": True, "hidden": 24, **DINOV3},
    "timm_dinov3": DINOV3,
    "timm_dinov3_gated": {"gated": True, "hidden": 24, **DINOV3},
    "hf_clip": {"pre_norm": True, "gelu": "quick", "epsilon": 1e-5},
    "hf_siglip": {"prefix": (), "pool": "map", "gelu": "tanh"},
}


def weight(name, shape):
    """As in the oracle."""
    if name.endswith(("gamma", "gamma_1", "gamma_2", "lambda1")) or (len(shape) == 1 and name.endswith("weight")):
        return uniform(name, shape) + np.float32(0.5)
    if len(shape) == 1:
        return centered(name, shape, 0.1)
    return centered(name, shape, 0.5 if "token" in name or "embed" in name else 2 / np.prod(shape[1:]) ** 0.5)


def golden(name):
    with np.load(GOLDEN / f"vit_{name}.npz") as archive:
        arrays = dict(archive)
    shapes = json.loads(str(arrays.pop("state_dict")))
    return arrays, {key: weight(key, tuple(shape)) for key, shape in shapes.items()}


def network(name):
    arrays, state_dict = golden(name)
    found = vit_names.canonical(state_dict)
    config = vit_names.fitted(dataclasses.replace(TINY, size=224, **CONFIGS[name]), found)
    check_weights(found, vit_names.expected_shapes(config, found), source=name)
    return arrays, config, jax.tree.map(jnp.asarray, vit_names.to_params(config, found))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("size", ["native", "wide"])
@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_blocks_and_attentions_agree(name, size):
    arrays, config, params = network(name)
    if f"{size}_outputs" not in arrays:
        assert name == "torchvision"  # which takes images of one size alone
        return
    assert config.size == (32 if config.rotary is None else 224)  # no positions tell of a size

    @jax.jit
    def forward(params, inputs):
        heard = {}

        def tap(layer, value):
            heard[layer] = value
            return value

        return *vit.forward(config, params, inputs, tap=tap), heard

    shape = {"native": (2, 32, 32, 3), "wide": (1, 40, 24, 3)}[size]
    outputs, activations, attentions = forward(params, jnp.asarray(synthetic_inputs(shape)))
    close(outputs, arrays[f"{size}_outputs"])
    for index, (layer, activation) in enumerate(activations.items()):
        patches = arrays[f"{size}_tokens"][index][:, config.prefix_length :]
        assert activation.shape[1:3] == (shape[1] // 8, shape[2] // 8)
        close(activation.reshape(patches.shape), patches)
        close(attentions[f"{layer}.attention"], arrays[f"{size}_attentions"][index])


def test_released_files_have_other_names():
    """transformers' files, the releases of DINOv2 and CLIP: renamed by hand, they are the same network."""
    pairs = {
        "hf_vit": [(r"^vit\.layers\.(\d)\.attention\.([qkv])_proj", r"vit.encoder.layer.\1.attention.attention.\2"),
                   (r"attention\.q\.", "attention.query."), (r"attention\.k\.", "attention.key."),
                   (r"attention\.v\.", "attention.value."),
                   (r"^vit\.layers\.(\d)\.attention\.o_proj", r"vit.encoder.layer.\1.attention.output.dense"),
                   (r"^vit\.layers\.(\d)\.mlp\.fc1", r"vit.encoder.layer.\1.intermediate.dense"),
                   (r"^vit\.layers\.(\d)\.mlp\.fc2", r"vit.encoder.layer.\1.output.dense"),
                   (r"^vit\.layers\.", "vit.encoder.layer.")],
        "timm_dinov2_gated": [(r"mlp\.fc1", "mlp.w12"), (r"mlp\.fc2", "mlp.w3")],
        "hf_clip": [(r"^vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
                    (r"^vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
                    (r"^vision_model\.embeddings\.patch_embedding", "visual.conv1"),
                    (r"^vision_model\.pre_layrnorm", "visual.ln_pre"),
                    (r"^vision_model\.post_layernorm", "visual.ln_post"),
                    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
                    (r"self_attn\.out_proj", "attn.out_proj"), (r"layer_norm(\d)", r"ln_\1"),
                    (r"mlp\.fc1", "mlp.c_fc"), (r"mlp\.fc2", "mlp.c_proj")],
    }  # fmt: skip
    for name, renames in pairs.items():
        _, state_dict = golden(name)
        released = {}
        for key, array in state_dict.items():
            for pattern, replacement in renames:
                key = re.sub(pattern, replacement, key)
            released[key] = array
        if name == "hf_clip":  # as CLIP's release keeps them
            for index in range(2):
                for leaf in ("weight", "bias"):
                    parts = [released.pop(f"visual.transformer.resblocks.{index}.self_attn.{part}_proj.{leaf}")
                             for part in "qkv"]  # fmt: skip
                    released[f"visual.transformer.resblocks.{index}.attn.in_proj_{leaf}"] = np.concatenate(parts)
            released["visual.proj"] = released.pop("visual_projection.weight").T
            released |= {"transformer.resblocks.0.ln_1.weight": np.ones(4), "logit_scale": np.ones(())}
        assert released.keys() != state_dict.keys()
        expected, found = vit_names.canonical(state_dict), vit_names.canonical(released)
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            np.testing.assert_array_equal(found[key], array)


def test_entries_that_are_missing_or_too_many_are_named():
    _, state_dict = golden("timm")
    state_dict["blocks.0.attn.q_norm.weight"] = state_dict.pop("blocks.1.norm1.bias")
    found = vit_names.canonical(state_dict)
    with pytest.raises(
        ValueError, match=r"1 missing: blocks\.1\.norm1\.bias\n.*1 not expected: blocks\.0\.attn\.q_norm"
    ):
        check_weights(found, vit_names.expected_shapes(TINY, found), source="a file")


def test_what_no_whole_patch_covers_is_not_seen():
    _, config, params = network("timm")
    inputs = jnp.asarray(synthetic_inputs((1, 39, 33, 3)))
    outputs, activations = run(config, params, inputs)
    np.testing.assert_array_equal(outputs, run(config, params, inputs[:, :32, :32])[0])
    assert activations["blocks.1"].shape == (1, 4, 4, 16)
    with pytest.raises(ValueError, match="inputs: expected at least 8 pixels a side"):
        run(config, params, inputs[:, :7])


def run(config, params, inputs, **options):
    return jax.jit(lambda params, inputs: vit.forward(config, params, inputs, **options))(params, inputs)


def test_depth_is_where_the_head_reads():
    _, config, params = network("timm_dinov2_registers")
    inputs = jnp.asarray(synthetic_inputs((1, 32, 32, 3)))
    shallow = dataclasses.replace(config, depth=1)
    expected, _ = run(shallow, dict(params, blocks=params["blocks"][:1]), inputs)
    found, activations = run(config, params, inputs, depth=1)
    np.testing.assert_array_equal(found, expected)
    assert list(activations) == ["blocks.0"]


def test_what_tap_returns_goes_on():
    """Without patch tokens after the first block, the outputs are another's; without attention, the tokens' own."""
    _, config, params = network("timm")
    inputs = jnp.asarray(synthetic_inputs((1, 32, 32, 3)))
    plain, _ = run(config, params, inputs)
    same, _ = run(config, params, inputs, tap=lambda name, value: value)
    np.testing.assert_array_equal(same, plain)
    for layer in ("blocks.0", "blocks.1.attention"):
        other, _ = run(config, params, inputs, tap=lambda n, v, at=layer: v * jnp.float32(n != at))
        assert np.abs(other - plain).max() > 1e-2
    # The head reads the class token: the last block's patch tokens have no part in it.
    last, _ = run(config, params, inputs, tap=lambda n, v: v * jnp.float32(n != "blocks.1"))
    np.testing.assert_array_equal(last, plain)


def test_the_softmaxes_are_in_no_plain_forward_output():
    _, config, params = network("timm")
    outputs = jax.eval_shape(lambda: vit.forward(config, params, jnp.zeros((1, 32, 32, 3))))
    assert max(leaf.shape[-1] for leaf in jax.tree.leaves(outputs)) == 16


@pytest.mark.parametrize("name", ["dinov2_vits14_reg", "vit_b_16", "deit_base_distilled_patch16", "clip_vit_b_32",
                                  "siglip_base_patch16", "dinov2_vitg14", "dinov3_vits16", "dinov3_vits16plus",
                                  "dinov3_vitb16", "dinov3_vitl16", "dinov3_vith16plus", "dinov3_vit7b16"])  # fmt: skip
def test_named_towers_have_the_sizes_of_their_releases(name):
    """Parameters of the image towers, counted from their authors' code (heads left out)."""
    millions = {"dinov2_vits14_reg": 22.06, "vit_b_16": 85.80, "deit_base_distilled_patch16": 85.80,
                "clip_vit_b_32": 87.46, "siglip_base_patch16": 92.88, "dinov2_vitg14": 1136.48,
                # transformers' DINOv3ViTModel, less the mask token and the biases of queries and values
                "dinov3_vits16": 21.587, "dinov3_vits16plus": 28.683, "dinov3_vitb16": 85.641,
                "dinov3_vitl16": 303.079, "dinov3_vith16plus": 840.509, "dinov3_vit7b16": 6716.031}  # fmt: skip
    shapes = vit_names.expected_shapes(TOWERS[name].config, {"patch_embed.proj.bias": np.zeros(1)})
    count = sum(np.prod(shape) for shape in shapes.values()) / 1e6
    assert count == pytest.approx(millions[name], abs=0.05)


def test_towers_are_backbones():
    assert {"dinov2_vits14", "resnet50"} <= set(backbone_names())
    tiny = Tower(TINY, lambda images: jnp.asarray(images, jnp.float32), "tiny")
    _, config, params = network("timm")
    backbone = tower_backbone("tiny", dataclasses.replace(tiny, config=config), params)
    assert (backbone.prefix, backbone.embeds, backbone.gradient_layer) == (1, False, "blocks.0")
    assert backbone.attentions == ("blocks.0.attention", "blocks.1.attention")
    with pytest.raises(ValueError, match=r"expected a network with ReLUs, .* got 'tiny', which has none"):
        explain(backbone, np.zeros((1, 32, 32, 3), np.uint8), method="guided_backprop")
    half = backbone.astype(jnp.bfloat16)
    inputs = jnp.asarray(synthetic_inputs((2, 32, 32, 3)))
    outputs, activations = half.apply(half.params, inputs.astype(jnp.bfloat16))
    assert outputs.dtype == activations["blocks.1"].dtype == jnp.bfloat16


def test_no_weights_to_be_had():
    with pytest.raises(ValueError, match="no package holds weights for 'dinov2_vitb14'"):
        load_backbone("dinov2_vitb14")


@pytest.mark.parametrize(("patch", "size"), [(14, (84, 112)), (16, (96, 96)), (24, (96, 96)), (48, (96, 96))])
def test_a_photographs_own_frame_is_of_whole_patches(patch, size):
    config = dataclasses.replace(TINY, patch=patch, size=2 * patch)
    params = vit_names.to_params(config, random_arrays(config))
    backbone = tower_backbone("tiny", Tower(config, lambda images: jnp.asarray(images, jnp.float32), ""), params)
    assert backbone.frame_step % patch == 0
    (importance,) = explain(backbone, [np.zeros((60, 72, 3), np.uint8)], frame=(96, 96), method="attention")
    assert importance.shape == size
