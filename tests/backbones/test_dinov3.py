"""DINOv3: what is turned by how much, and whose files are read (the network itself: test_vit.py)."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mlfem_jax import load_backbone
from mlfem_jax.backbones.files.fit import check_weights
from mlfem_jax.backbones.networks import vit_names
from mlfem_jax.backbones.networks.rotary import periods, rotation
from mlfem_jax.backbones.towers import TOWERS, Tower
from tests.backbones.test_vit import DINOV3, TINY, close, golden
from tests.synthetic_weights import synthetic_inputs

CONFIG = dataclasses.replace(TINY, **DINOV3)
GATED = dataclasses.replace(CONFIG, gated=True, hidden=24)
AUTHORS = [
    (r"^(embeddings|model)\.", ""), (r"^register_tokens$", "storage_tokens"),
    (r"^patch_embeddings\.", "patch_embed.proj."), (r"^layer\.", "blocks."), (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.", ".attn."), (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"), (r"\.mlp\.gate_proj\.", ".mlp.w1."),
]  # fmt: skip


def authors(name):
    """A golden file of transformers by the names of the authors' code, with what theirs hold beside."""
    _, arrays = golden(name)
    gated = any("gate_proj" in key for key in arrays)
    up, down = ("w2", "w3") if gated else ("fc1", "fc2")
    renames = [*AUTHORS, (r"\.mlp\.up_proj\.", f".mlp.{up}."), (r"\.mlp\.down_proj\.", f".mlp.{down}.")]
    found = {}
    for key, array in arrays.items():
        for pattern, replacement in renames:
            key = re.sub(pattern, replacement, key)
        found[key] = array
    for index in range(2):
        block = f"blocks.{index}.attn"
        parts = {key: found.pop(f"{block}.{key}") for key in
                 ("q_proj.weight", "k_proj.weight", "v_proj.weight", "q_proj.bias", "v_proj.bias")}  # fmt: skip
        found[f"{block}.qkv.weight"] = np.concatenate([parts[f"{part}_proj.weight"] for part in "qkv"])
        # The mask takes whatever stands where a key's bias would.
        found[f"{block}.qkv.bias"] = np.concatenate(
            [parts["q_proj.bias"], np.full(16, 7, np.float32), parts["v_proj.bias"]]
        )
        found[f"{block}.qkv.bias_mask"] = np.repeat(np.array([1, 0, 1], np.float32), 16)
    rounded = np.asarray(jnp.asarray(periods(8, 100.0), jnp.bfloat16), np.float32)
    norm = {f"local_cls_norm.{leaf}": np.ones(16, np.float32) for leaf in ("weight", "bias")}
    return found | {"rope_embed.periods": rounded} | norm


def test_a_pair_of_channels_is_turned_by_its_place():
    """Two patches side by side: y is 0, x is -1/2 and 1/2, half a turn of the one period, 1; a pair is (i, i + 2)."""
    turn = rotation((1, 2), prefix=1, width=4, base=100.0)
    heads = jnp.tile(jnp.arange(1.0, 5.0)[None, None, None], (1, 3, 2, 1))
    expected = np.array([[1, 2, 3, 4], [1, -2, 3, -4], [1, -2, 3, -4]])
    np.testing.assert_allclose(turn(heads), np.broadcast_to(expected[None, :, None], (1, 3, 2, 4)), atol=1e-6)
    assert turn(heads.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_turns_by_loops():
    """3 x 2 patches, 8 channels: periods 1 and 10, the first two pairs for y, the others for x."""
    turn, heads = rotation((3, 2), prefix=0, width=8, base=100.0), jax.random.normal(jax.random.key(0), (1, 6, 1, 8))
    expected = np.array(heads)
    for row in range(3):
        for column in range(2):
            place = {"y": 2 * (row + 0.5) / 3 - 1, "x": 2 * (column + 0.5) / 2 - 1}
            for pair, (axis, period) in enumerate([("y", 1), ("y", 10), ("x", 1), ("x", 10)]):
                angle = 2 * np.pi * place[axis] / period
                one, other = np.array(heads[0, 2 * row + column, 0, [pair, pair + 4]])
                turned = np.cos(angle) * one - np.sin(angle) * other, np.cos(angle) * other + np.sin(angle) * one
                expected[0, 2 * row + column, 0, [pair, pair + 4]] = turned
    np.testing.assert_allclose(turn(heads), expected, atol=1e-6)
    np.testing.assert_array_equal(rotation((3, 2), prefix=0, width=8, base=None)(heads), heads)


@pytest.mark.parametrize(("name", "config"), [("hf_dinov3", CONFIG), ("hf_dinov3_gated", GATED)])
def test_the_authors_names_are_the_same_network(name, config):
    expected, found = vit_names.canonical(golden(name)[1]), vit_names.canonical(authors(name))
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
    check_weights(found, vit_names.expected_shapes(config, found), source=name)
    assert not expected["blocks.1.attn.qkv.bias"][16:32].any() and expected["blocks.1.attn.qkv.bias"][32:].any()


@pytest.mark.parametrize(
    ("entry", "array"),
    [
        ("rope_embed.periods", np.float32([1, 20])),
        ("blocks.1.attn.qkv.bias_mask", np.ones(3, np.float32)),
    ],
)
def test_what_is_no_dinov3_is_named(entry, array):
    found = vit_names.canonical(authors("hf_dinov3") | {entry: array})
    with pytest.raises(ValueError, match=rf"1 not expected: {re.escape(entry)}"):
        check_weights(found, vit_names.expected_shapes(CONFIG, found), source="a file")


def test_a_bias_that_is_missing_in_one_block_is_named():
    _, arrays = golden("hf_dinov3")
    del arrays["model.layer.1.attention.q_proj.bias"], arrays["model.layer.1.attention.v_proj.bias"]
    found = vit_names.canonical(arrays)
    with pytest.raises(ValueError, match=r"1 missing: blocks\.1\.attn\.qkv\.bias"):
        check_weights(found, vit_names.expected_shapes(CONFIG, found), source="a file")


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_a_folder_of_hugging_face_is_read(monkeypatch, tmp_path, prefix):
    """As version 5 of transformers names the blocks, and as the released files do."""
    monkeypatch.setitem(TOWERS, "tiny", Tower(CONFIG, lambda images: jnp.asarray(images, jnp.float32), "tiny"))
    expected, arrays = golden("hf_dinov3")
    arrays = {re.sub(r"^model\.", prefix, name): np.ascontiguousarray(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov3_vit"}))
    backbone = load_backbone("tiny", tmp_path)
    assert (backbone.prefix, backbone.embeds, backbone.gradient_layer) == (5, True, "blocks.0")
    close(backbone.apply(backbone.params, jnp.asarray(synthetic_inputs((1, 40, 24, 3))))[0], expected["wide_outputs"])
