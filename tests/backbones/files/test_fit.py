"""What a weight file says, and whether its arrays are a network's: by name, shape and value."""

import hashlib
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import mlfem_jax as mlfem
from mlfem_jax.backbones.files import about
from mlfem_jax.backbones.files.fit import check_values, check_weights, without_prefix
from mlfem_jax.backbones.files.read import read_weights, save_weights
from mlfem_jax.backbones.registry import load_backbone, network_arrays
from tests.backbones.files.test_torch_file import tensor, text, write_zip
from tests.networks import photographs
from tests.synthetic_weights import synthetic_state_dict

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def resnet():
    """The state dict of a ResNet-18 of three classes."""
    return state_dict_of(3)


def state_dict_of(classes):
    with np.load(GOLDEN / "resnet18.npz") as file:
        shapes = json.loads(file["state_dict"].item())
    return synthetic_state_dict(shapes | {"fc.weight": (classes, 512), "fc.bias": (classes,)})


def written(folder, arrays):
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "w.st")
    return folder / "w.st"


def same(backbone, resnet):
    np.testing.assert_allclose(backbone.params["fc"]["kernel"], resnet["fc.weight"].T, atol=1e-3)
    return backbone


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "model.", "net.", "backbone.", "a.b."]
)
def test_a_prefix_is_taken_off(tmp_path, resnet, prefix):
    file = written(tmp_path, {prefix + name: array for name, array in resnet.items()})
    found, _ = network_arrays("resnet18", file)
    assert found.keys() == resnet.keys()
    np.testing.assert_array_equal(found["fc.weight"], resnet["fc.weight"])
    if prefix == "model.":
        same(load_backbone("resnet18", file), resnet)


def test_other_parts_are_left_out_and_a_head_beside_the_trunk_is_found(tmp_path, resnet):
    renamed = {name if name.startswith("fc.") else f"backbone.{name}": array for name, array in resnet.items()}
    same(load_backbone("resnet18", written(tmp_path, renamed | {"loss.weight": np.ones(4, np.float32)})), resnet)
    both = {f"{part}.{name}": array for name, array in resnet.items() for part in ("student", "teacher")}
    with pytest.raises(
        ValueError, match=r"w\.st: expected one network that fits, got two, under '(student|teacher)\.'"
    ):
        load_backbone("resnet18", written(tmp_path, both))
    assert without_prefix({"..": 1, ".": 2}, ["a"]) == {"..": 1, ".": 2}


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_every_floating_type_is_taken(tmp_path, resnet, dtype):
    same(load_backbone("resnet18", written(tmp_path, {n: a.astype(dtype) for n, a in resnet.items()})), resnet)


def test_shards_and_folders_of_hugging_face(tmp_path, resnet):
    names = list(resnet)
    parts = {"model-1.safetensors": names[:50], "model-2.safetensors": names[50:]}
    for file, part in parts.items():
        safetensors.numpy.save_file({name: np.ascontiguousarray(resnet[name]) for name in part}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    weight_map = {name: file for file, part in parts.items() for name in part}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    labels = {"0": "cat", "1": "dog", "2": "cup"}
    (tmp_path / "config.json").write_text(
        json.dumps({"id2label": labels, "problem_type": "multi_label_classification"})
    )
    backbone = same(load_backbone("resnet18", tmp_path), resnet)
    assert backbone.labels == ("cat", "dog", "cup") and backbone.output == "sigmoid"
    assert same(load_backbone("resnet18", index), resnet).labels == ()
    index.write_text(json.dumps({"weight_map": weight_map | {"fc.bias": "../model-1.safetensors"}}))
    with pytest.raises(ValueError, match=r"beside it, got '\.\./model-1\.safetensors'; refused"):
        load_backbone("resnet18", tmp_path)
    (tmp_path / "model.safetensors").symlink_to(written(tmp_path, resnet))  # as its cache has them
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}))
    assert same(load_backbone("resnet18", tmp_path), resnet).labels == ()


def test_what_nearly_fits_is_suggested():
    with pytest.raises(ValueError, match=r"1 nearly the same: fc\.weight is perhaps head\.fc\.weight"):
        check_weights({"head.fc.weight": np.ones((2, 3)), "head.fc.bias": np.ones(2)},
                      {"fc.weight": (2, 3), "fc.bias": (2,)}, source="a")  # fmt: skip
    check_weights({"w": np.ones(2), "epoch": np.array(3)}, {"w": (2,)}, source="a")


@pytest.mark.parametrize("array", [np.float32(3), np.ones((0, 512), np.float32), np.ones(512, np.float32),
                                   np.ones((3, 512, 1, 1), np.float32), np.ones((2**31, 0), np.float32)])  # fmt: skip
def test_odd_heads_are_refused(tmp_path, resnet, array):
    file = tmp_path / "w.npz"
    np.savez(file, **resnet | {"fc.weight": array})
    with pytest.raises(ValueError, match=r"w\.npz: expected the network's arrays, got others"):
        load_backbone("resnet18", file)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("conv1.weight", np.nan, r"1 of 9408 NaN or infinite in conv1\.weight"),
        ("fc.bias", -np.inf, r"1 of 3 NaN or infinite in fc\.bias"),
        ("fc.bias", 1e300, r"1 of 3 NaN or infinite in fc\.bias"),
        ("bn1.running_var", -1e-3, r"1 of 64 variances below zero in bn1\.running_var"),
        ("bn1.weight", 1e38, r"conv1\.weight: expected float32, got numbers beyond it once bn1 is folded"),
    ],
)
def test_values_that_are_no_networks(tmp_path, resnet, name, value, message):
    broken = resnet[name].astype(np.float64)
    broken.flat[0] = value
    arrays = resnet | {name: broken, "conv1.weight": broken if name == "conv1.weight" else resnet["conv1.weight"] * 1e3}
    with pytest.raises(ValueError, match=rf"w\.st: .*{message}"):
        load_backbone("resnet18", written(tmp_path, arrays))


def test_quantized_weights_are_refused():
    with pytest.raises(ValueError, match=r"expected fractions.* int8 in w"):
        check_values({"w": np.ones(3, np.int8)}, ["w"], source="a")


def run_of(folder, resnet, **notes):
    """A run's folder, as `save_classifier` writes it."""
    save_weights(folder / "weights" / "default", resnet)
    said = {"backbone": "resnet18", "labels": ["a", "b", "c"], **notes}
    (folder / "weights" / "classifier.json").write_text(json.dumps(said))
    return folder


def test_a_run_says_how_it_was_trained_and_what_it_is(tmp_path, resnet):
    backbone = load_backbone("resnet18", run_of(tmp_path, resnet, loss="sigmoid"))
    assert backbone.output == "sigmoid" and backbone.labels == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"expected weights of resnet34, got a run of resnet18; load it as that"):
        load_backbone("resnet34", tmp_path)
    with pytest.raises(ValueError, match=r"got a run of resnet18"):
        network_arrays("keras_resnet50", tmp_path)
    said = tmp_path / "weights" / "classifier.json"
    odd = ['{"labels": "abc"}', '{"labels": [1, 2, 3]}', '{"labels": []}', '{"labels": ["a", "b", "c"], "loss": 3}']
    odd += ["", "[]", "3", "{}", "[" * 10**5, '{"labels": ["a", "b", "c"], "backbone": []}']
    for content in odd:
        said.write_text(content)
        with pytest.raises(ValueError, match=r"classifier\.json: "):
            load_backbone("resnet18", tmp_path)
    said.write_text(json.dumps({"backbone": "resnet18", "labels": ["a", "b"]}))
    with pytest.raises(ValueError, match=r"expected names of its 3 classes, got 2"):
        load_backbone("resnet18", tmp_path)


def test_keras_and_torch_are_told_apart(tmp_path, resnet):
    with pytest.raises(ValueError, match=r"w\.st: expected Keras' names .*ResNet-50 is resnet50.*not those of keras_"):
        load_backbone("keras_resnet50", written(tmp_path, resnet))
    with pytest.raises(ValueError, match=r"w\.st: expected torchvision's or timm's names .*not those of resnet18"):
        load_backbone("resnet18", written(tmp_path, {"conv1_conv/kernel": np.ones(3)}))


def test_keras_3_numbers_get_their_names_back(tmp_path):
    # Keras 3.15 saved its ResNet-50 so: `model.layers` in their order, numbered by kind (checked against keras itself).
    from mlfem_jax.backbones.files.keras_file import torch_resnet

    arrays = {
        "conv2d/0": 0,
        "conv2d_3/1": 1,
        "batch_normalization_4/3": 2,
        "conv2d_52/0": 3,
        "dense/1": 4,
        "conv2d_13/0": 5,
    }
    found = torch_resnet({name: np.full(1, value) for name, value in arrays.items()})
    assert {name: int(array[0]) for name, array in found.items()} == {
        "conv1.weight": 0,
        "layer1.0.downsample.0.bias": 1,
        "layer1.0.bn3.running_var": 2,
        "layer4.2.conv3.weight": 3,
        "fc.bias": 4,
        "layer2.0.downsample.0.weight": 5,
    }


def test_imagenets_names_only_where_the_file_is_known(tmp_path, monkeypatch):
    file = written(tmp_path, state_dict_of(1000))
    assert load_backbone("resnet18", file).labels == ()
    monkeypatch.setattr(about, "_PUBLISHED", {hashlib.sha256(file.read_bytes()).hexdigest()[:8]})
    assert load_backbone("resnet18", file).labels[967] == "espresso"
    monkeypatch.undo()
    file.rename(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_classes": 1000, "pretrained_cfg": {"tag": "a1_in1k"}}))
    assert load_backbone("resnet18", tmp_path).labels[967] == "espresso"


def test_one_logit_is_read_by_sigmoid_and_explained(tmp_path):
    assert load_backbone("resnet18", written(tmp_path, state_dict_of(1))).output == "sigmoid"
    small = mlfem.from_function(
        lambda p, x: (jnp.abs(x).mean(axis=(1, 2))[:, :1], {"a": jnp.abs(x)}), (), input_size=(16, 16)
    )
    assert small.output == "sigmoid"
    assert np.ptp(mlfem.explain(small, photographs(1), method="rise", samples=16)) == pytest.approx(1)


def beside(*pairs):
    """A checkpoint: a state dict of one tensor, and the pickled values of `pairs` beside it."""
    state = b"}" + text("w") + tensor(0, [4], [1]) + b"s"
    return (
        b"\x80\x02}"
        + text("state_dict")
        + state
        + b"s"
        + b"".join(text(name) + value + b"s" for name, value in pairs)
        + b"."
    )


@pytest.mark.parametrize(
    "value",
    [
        b"cargparse\nNamespace\n)\x81}" + text("lr") + b"K\1sb",
        b"ccollections\nCounter\n}\x85R",
        b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R" + text("a") + b"K\1s",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n" + text("f8") + b"K\0K\1\x87R" + text("12345678") + b"tR",
        b"c__builtin__\nset\n]\x85R",
        b"ctorch\nfloat32\n",
        b"}K\1\x85Ns",
    ],
)
def test_harmless_objects_beside_the_tensors_are_left_out(tmp_path, value):
    assert read_weights(write_zip(tmp_path / "a.pth", beside(("args", value)))).keys() == {"w"}
    flat = b"\x80\x02}" + text("args") + value + b"s" + text("w") + tensor(0, [4], [1]) + b"s."
    assert "w" in read_weights(write_zip(tmp_path / "b.pth", flat))


def test_other_objects_beside_the_tensors_are_not(tmp_path):
    for value in (b"cposix\nsystem\n", b"c__main__\nModel\n)R", b"c__builtin__\neval\n"):
        with pytest.raises(ValueError, match=r"a\.pth: expected .*, got the Python object .*nothing in it was run"):
            read_weights(write_zip(tmp_path / "a.pth", beside(("args", value))))


@pytest.mark.parametrize("wrapper", ["model", "net", "ema", "model_ema"])
def test_nested_state_dicts(tmp_path, wrapper):
    state = b"}" + text("module.w") + tensor(0, [4], [1]) + b"s"
    nested = b"\x80\x02}" + text(wrapper) + state + b"s" + text("optimizer") + b"}K\0]ss."
    assert read_weights(write_zip(tmp_path / "a.pth", nested)).keys() == {"w"}
