"""What a weight file says of a vision transformer is looked at as it is for other networks."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mlfem_jax import load_backbone
from mlfem_jax.backbones.towers import TOWERS, Tower
from tests.backbones.test_vit import CONFIGS, TINY, golden


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A tower that `load_backbone` knows by name."""
    config = dataclasses.replace(TINY, **CONFIGS["torchvision"])
    monkeypatch.setitem(TOWERS, "tiny", Tower(config, lambda images: jnp.asarray(images, jnp.float32), "tiny"))


def state_dict(classes):
    """With torchvision's names, and a head of so many classes; None leaves it out."""
    _, arrays = golden("torchvision")
    arrays = {name: array for name, array in arrays.items() if not name.startswith("heads.")}
    if classes is None:
        return arrays
    rng = np.random.default_rng(0)
    head = {
        "heads.head.weight": rng.random((classes, 16), np.float32),
        "heads.head.bias": np.zeros(classes, np.float32),
    }
    return arrays | head


def folder(tmp_path, arrays, **said):
    safetensors.numpy.save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()},
                                tmp_path / "model.safetensors")  # fmt: skip
    if said:
        (tmp_path / "config.json").write_text(json.dumps(said))
    return tmp_path


@pytest.mark.parametrize("prefix", ["net.", "student.backbone.", "model.", "_orig_mod.", "vit.", "a.vision_model."])
def test_a_prefix_is_taken_off_before_the_names_are_read(tmp_path, prefix):
    plain, prefixed = state_dict(3), tmp_path / "prefixed"
    prefixed.mkdir()
    found = load_backbone("tiny", folder(prefixed, {prefix + name: array for name, array in plain.items()}))
    np.testing.assert_array_equal(found.params["head"]["kernel"], plain["heads.head.weight"].T)


def test_wrappers_are_taken_out_of_the_middle_of_names(tmp_path):
    inside = {name.replace("encoder.layers.", "encoder._orig_mod.layers."): a for name, a in state_dict(3).items()}
    assert any("_orig_mod" in name for name in inside)
    load_backbone("tiny", folder(tmp_path, inside))
    twice = {"_orig_mod.a": np.ones(1, np.float32), "a": np.ones(1, np.float32)}
    with pytest.raises(ValueError, match="expected arrays of distinct names, got two that differ in what a wrapper"):
        load_backbone("tiny", folder(tmp_path, twice))


def test_two_towers_that_fit_are_refused(tmp_path):
    both = {f"{part}.{name}": array for name, array in state_dict(None).items() for part in ("student", "teacher")}
    with pytest.raises(ValueError, match=rf"{tmp_path}: expected one network that fits, got two, under '\w+\.' and"):
        load_backbone("tiny", folder(tmp_path, both))


@pytest.mark.parametrize(
    ("classes", "said", "output"),
    [
        (3, {}, "softmax"),
        (3, {"problem_type": "multi_label_classification"}, "sigmoid"),
        (1, {}, "sigmoid"),
        (1, {"problem_type": "regression"}, "sigmoid"),
    ],
)
def test_how_logits_are_read_is_what_the_file_says(tmp_path, classes, said, output):
    assert load_backbone("tiny", folder(tmp_path, state_dict(classes), **said)).output == output


def test_names_of_classes_are_the_files_or_refused(tmp_path):
    names = {"0": "ant", "1": "bee", "2": "cat"}
    assert load_backbone("tiny", folder(tmp_path, state_dict(3), id2label=names)).labels == ("ant", "bee", "cat")
    with pytest.raises(ValueError, match=rf"{tmp_path}: expected names of its 4 classes, got 3"):
        load_backbone("tiny", folder(tmp_path, state_dict(4), id2label=names))
    assert load_backbone("tiny", folder(tmp_path, state_dict(None), id2label=names)).labels == ()  # it tells none


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"num_attention_heads": 4}, "num_attention_heads 2, got num_attention_heads 4"),
        ({"hidden_act": "quick_gelu"}, 'hidden_act "gelu", got hidden_act "quick_gelu"'),
        ({"vision_config": {"num_attention_heads": 4}, "num_attention_heads": 2}, "num_attention_heads 2, got"),
    ],
)
def test_what_arrays_do_not_show_of_a_transformer_is_read_of_its_config(tmp_path, said, message):
    with pytest.raises(ValueError, match=rf"{tmp_path}: expected tiny with {message}"):
        load_backbone("tiny", folder(tmp_path, state_dict(3), model_type="vit", **said))
    fitting = {"num_attention_heads": 2, "hidden_act": "gelu", "hidden_size": 16}
    load_backbone("tiny", folder(tmp_path, state_dict(3), model_type="vit", **fitting))


def test_a_missing_bias_is_not_made_up(tmp_path):
    _, arrays = golden("hf_vit")
    broken = {name: array for name, array in arrays.items() if not name.endswith("k_proj.bias")}
    assert len(broken) < len(arrays)
    with pytest.raises(ValueError, match=r"qkv\.bias"):
        load_backbone("tiny", folder(tmp_path, broken))


@pytest.mark.parametrize("head", [np.zeros((0, 16)), np.zeros(()), np.zeros((3, 16, 1)), np.full((3, 16), np.nan)])
def test_a_head_that_is_none_is_refused(tmp_path, head):
    arrays = state_dict(3) | {"heads.head.weight": head.astype(np.float32)}
    with pytest.raises(ValueError, match=rf"(?s){tmp_path}: expected .*head\.weight"):
        load_backbone("tiny", folder(tmp_path, arrays))


@pytest.mark.parametrize(
    ("name", "shape"), [("encoder.pos_embedding", (17,)), ("class_token", ()), ("conv_proj.weight", ())]
)
def test_arrays_of_odd_shapes_are_named(tmp_path, name, shape):
    with pytest.raises(ValueError, match=rf"{tmp_path}: expected "):
        load_backbone("tiny", folder(tmp_path, state_dict(3) | {name: np.zeros(shape, np.float32)}))
