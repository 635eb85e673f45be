"""The method "net": trained weights on disk, in use, and refused where they do not fit."""

import dataclasses
import json
from collections import OrderedDict

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import explain, from_function, layer_maps, methods
from mlfem_jax.fusion import stacks
from mlfem_jax.fusion.network import PaperNet, predict
from mlfem_jax.fusion.stacks import map_stack
from mlfem_jax.fusion.stored import TrainedFusion, load_fusion, packaged_fusion, save_fusion

NET = PaperNet(4)


def tiny_apply(params, inputs):
    first = jax.nn.relu(inputs @ params)
    second = first[:, ::2, ::2] ** 2
    return first.mean(axis=(1, 2)), OrderedDict(first=first, second=second)


@pytest.fixture
def backbone():
    params = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32))
    return from_function(tiny_apply, params, input_size=(16, 16), name="tiny")


@pytest.fixture
def trained(tmp_path):
    """(what was saved, its file)."""
    params = NET.init(jax.random.key(0))
    made = TrainedFusion(NET, params, "tiny", ("first", "second"), (1.0, 2.0), {"seed": 0}, ("as_is", "as_is"))
    save_fusion(tmp_path / "fusion.safetensors", made)
    return made, tmp_path / "fusion.safetensors"


def photos():
    return np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)


def test_weights_come_back_as_they_were(trained):
    made, path = trained
    found = load_fusion(path)
    assert dataclasses.replace(found, params=None) == dataclasses.replace(made, params=None)
    assert jax.tree.structure(found.params) == jax.tree.structure(made.params)
    chex.assert_trees_all_equal(found.params, jax.device_get(made.params), strict=True)


def test_net_fuses_every_k_of_every_layer(backbone, trained):
    made, path = trained
    maps = explain(backbone, photos(), method="net", weights=str(path))
    _, activations = backbone.apply(backbone.params, backbone.preprocess(jnp.asarray(photos())))
    for index in range(2):
        one = OrderedDict((name, values[index]) for name, values in activations.items())
        at_1, at_2 = (layer_maps(one, (16, 16), k=k) for k in (1.0, 2.0))
        stack = jnp.stack([at_1[0], at_2[0], at_1[1], at_2[1]])
        np.testing.assert_allclose(maps[index], predict(NET, made.params, stack, (16, 16)), atol=1e-4)


def slow_resize(importance, size):
    """Linear interpolation; a mean under a triangle twice as wide as a pixel where the map is made smaller."""
    for axis, length in enumerate(size):
        importance = np.moveaxis(np.asarray(importance, np.float64), axis, 0)
        ratio, rows = len(importance) / length, []
        for place in range(length):
            center = (place + 0.5) * ratio - 0.5
            weights = [max(0.0, 1 - abs(i - center) / max(ratio, 1.0)) for i in range(len(importance))]
            rows.append(np.average(importance, axis=0, weights=weights))
        importance = np.moveaxis(np.array(rows), 0, axis)
    return importance


def test_a_tpu_gets_the_same_maps_of_every_k(monkeypatch):
    activation = jnp.asarray(np.random.default_rng(3).normal(size=(5, 6, 4)), jnp.bfloat16)
    ks, elsewhere = (0.5, 1.0, 2.0), stacks._raw_maps(activation, jnp.array([0.5, 1.0, 2.0]), "as_is")
    chosen = []

    def on_tpu(*operands, default, tpu=None, **others):
        chosen.append(tpu)
        return (tpu or default)(*operands)

    monkeypatch.setattr(jax.lax, "platform_dependent", on_tpu)
    np.testing.assert_array_equal(stacks._raw_maps(activation, jnp.array(ks), "as_is"), elsewhere)
    assert chosen[0] is not None


@pytest.mark.parametrize(("shape", "signs"), [((16, 16), ()), ((8, 8), ("two_sided", "as_is")), ((5, 3), ())])
def test_a_stack_is_fem_resized_and_normalized_layer_by_layer(shape, signs):
    rng = np.random.default_rng(2)
    activations = {
        name: rng.normal(size=(*size, 4)).astype(np.float32) for name, size in (("a", (16, 16)), ("b", (4, 6)))
    }
    stack = jax.jit(lambda one: map_stack(one, shape, layers=("b", "a"), ks=(0.5, 1.0), signs=signs))(activations)
    for importance, (name, k) in zip(stack, [("b", 0.5), ("b", 1.0), ("a", 0.5), ("a", 1.0)], strict=True):
        values = activations[name].astype(np.float64)
        mean = values.mean(axis=(0, 1))
        kept = values >= mean + k * values.std(axis=(0, 1))
        if signs and name == "b":
            kept, mean = np.abs(values - mean) >= k * values.std(axis=(0, 1)), np.abs(mean)
        resized = slow_resize((kept * mean).sum(axis=-1), shape)
        np.testing.assert_allclose(importance, (resized - resized.min()) / (resized.max() - resized.min()), atol=1e-5)


def test_maps_are_made_at_the_resolution_of_the_network(backbone, trained, tmp_path):
    small = dataclasses.replace(trained[0], net=dataclasses.replace(NET, shrink=3))
    save_fusion(tmp_path / "small.safetensors", small)
    maps = explain(backbone, photos(), method="net", weights=str(tmp_path / "small.safetensors"))
    _, activations = backbone.apply(backbone.params, backbone.preprocess(jnp.asarray(photos())))
    stack = map_stack({n: a[1] for n, a in activations.items()}, (6, 6), layers=small.layers, ks=small.ks)
    np.testing.assert_allclose(maps[1], predict(small.net, small.params, stack, (16, 16)), atol=1e-4)


@pytest.mark.parametrize("value", [0.0, jnp.nan])
def test_a_network_that_sees_nothing_gives_a_blank_map(trained, value):
    _, path = trained
    blind = from_function(tiny_apply, jnp.full((3, 5), value), input_size=(16, 16), name="tiny")
    assert not explain(blind, photos(), method="net", weights=str(path)).any()


def test_what_it_was_not_trained_for_is_refused(backbone, trained):
    _, path = trained
    other = dataclasses.replace(backbone, name="other")
    with pytest.raises(ValueError, match="weights: expected a fusion trained for 'other', got one trained for 'tiny'"):
        explain(other, photos(), method="net", weights=str(path))
    with pytest.raises(ValueError, match=r"layers: expected the layers .* trained for, first, second, got second"):
        explain(backbone, photos(), method="net", weights=str(path), layers="second")
    with pytest.raises(ValueError, match=r"method 'net': expected options among .*, got k$"):
        explain(backbone, photos(), method="net", weights=str(path), k=1.0)
    with pytest.raises(
        ValueError, match=r"architecture: expected .* ships for the backbone 'tiny' .*, got 'channels'.*train fusion"
    ):
        explain(backbone, photos(), method="net")


def test_damaged_weights_are_named(trained):
    _, path = trained
    about = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(about | {"ks": [1.0]}))
    with pytest.raises(ValueError, match=r"fusion\.json: expected 2 layers times 1 k"):
        load_fusion(path)
    path.with_suffix(".json").write_text(json.dumps(about | {"ks": [float("nan")] * len(about["ks"])}))
    with pytest.raises(ValueError, match=r"fusion\.json: expected finite numbers as ks, got"):
        load_fusion(path)
    path.with_suffix(".json").write_text("[" * 10**5)
    with pytest.raises(ValueError, match=r"fusion\.json: expected a description of a fusion network, got another"):
        load_fusion(path)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(ValueError, match=r"fusion\.json: expected a description of a fusion network, got another"):
        load_fusion(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"fusion\.json: expected a file .* fusion\.safetensors .*, got none"):
        load_fusion(path)


def test_arrays_of_another_network_are_named(trained):
    _, path = trained
    about = json.loads(path.with_suffix(".json").read_text())
    about |= {"net": about["net"] | {"architecture": "unet"}}
    path.with_suffix(".json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"fusion\.safetensors"):
        load_fusion(path)


@pytest.mark.parametrize(
    ("architecture", "network", "size", "layers"),
    [
        ("net", "efficientnet_lite0", (224, 224), 17),
        ("unet", "efficientnet_lite0", (224, 224), 17),
        ("channels", "efficientnet_lite0", (224, 224), 7),
        ("channels", "efficientnet_lite0", (384, 512), 7),
        ("channels", "efficientnet_lite1", (384, 512), 8),
        ("channels", "efficientnet_lite2", (384, 512), 8),
        ("channels", "dinov2_vits14", (384, 512), 10),
        ("linear", "efficientnet_lite0", (384, 512), 7),
    ],
)
def test_packaged_networks_are_small_and_say_where_they_come_from(architecture, network, size, layers):
    path = packaged_fusion(architecture, network, size)
    trained = load_fusion(path)
    assert trained.net.architecture == architecture and trained.backbone == network
    assert len(trained.layers) == layers
    assert {"command", "settings", "validation", "versions"} <= set(trained.provenance)
    assert "/" not in json.dumps(trained.provenance["settings"])  # no folder of somebody's machine
    assert path.stat().st_size < 6e5


def test_of_several_frames_the_nearest_number_of_pixels_is_taken():
    def taken(size):
        return packaged_fusion("channels", "efficientnet_lite0", size).stem.rpartition("_")[2]

    assert taken(None) == taken((224, 224)) == taken((192, 288)) == "224x224"
    assert taken((384, 512)) == taken((512, 384)) == taken((768, 1024)) == "384x512"


def test_net_works_out_of_the_box(efficientnet):
    assert "net" in methods()
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    importance = explain(efficientnet, image, method="net")[0]
    assert (
        importance.shape == (224, 224) and float(importance.min()) == 0 and float(importance.max()) == pytest.approx(1)
    )
