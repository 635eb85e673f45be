"""The script from a prepared data set to weights that explain, cached and computed alike."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from mlfem_jax import explain, from_function
from mlfem_jax.data.batches import open_dataset
from mlfem_jax.data.example import image_frames
from mlfem_jax.data.prepared.write import prepare
from mlfem_jax.data.split import k_folds, scan
from mlfem_jax.training.fusion import task as fusion
from mlfem_jax.training.fusion.config import Config
from mlfem_jax.training.fusion.data import open_data
from mlfem_jax.training.fusion.step import Recipe
from mlfem_jax.training.run import read_metrics
from mlfem_jax.training.task import training_parts


def tiny_apply(params, inputs):
    features = jax.nn.relu(inputs @ params)
    return features.mean(axis=(1, 2)), {"first": features, "second": features[:, ::2, ::2]}


def prepared(root, looked_at):
    """A prepared data set of (pixels, (y, x) that two observers look at)."""
    (root / "images").mkdir()
    rows = ["image,x,y,observer"]
    for number, (pixels, (y, x)) in enumerate(looked_at):
        Image.fromarray(pixels).save(root / "images" / f"photo{number}.png")
        rows += [f"photo{number}.png,{x},{y},{observer}" for observer in range(2)]
    (root / "fixations.csv").write_text("\n".join([*rows, ""]))
    return prepare("folder", root, root / "built", sigma_px=3.0)


@pytest.fixture(scope="module")
def gaze(tmp_path_factory):
    """A prepared data set of 12 photographs, looked at where they are bright."""
    rng, looked_at = np.random.default_rng(0), []
    for _ in range(12):
        pixels = rng.integers(0, 60, (24, 32, 3), dtype=np.uint8)
        y, x = rng.integers(4, 20), rng.integers(4, 28)
        pixels[y - 3 : y + 4, x - 3 : x + 4] = 255
        looked_at.append((pixels, (y, x)))
    return prepared(tmp_path_factory.mktemp("gaze"), looked_at)


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """One of 15 photographs of noise, every third of them portrait."""
    rng = np.random.default_rng(0)
    shapes = [(32, 24, 3) if number % 3 == 0 else (24, 32, 3) for number in range(15)]
    looked_at = [(rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(4, 20, 2)) for shape in shapes]
    return prepared(tmp_path_factory.mktemp("turned"), looked_at)


@pytest.fixture
def backbone(monkeypatch):
    params = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    tiny = from_function(tiny_apply, params, input_size=(32, 32), name="tiny")
    monkeypatch.setattr(fusion, "load_backbone", lambda name, weights: tiny)
    return tiny


def test_from_gaze_to_weights_that_explain(gaze, backbone, tmp_path):
    recipe = Recipe(epochs=2, batch_size=4, learning_rate=1e-2)
    config = Config(gaze, tmp_path / "a", architecture="net", validation=0.3, cache=tmp_path / "maps", recipe=recipe)
    fusion.train_fusion(config)
    rows = read_metrics(tmp_path / "a")
    assert len(rows) == 2 and all(-1 <= row["pcc"] <= 1 and 0 <= row["sim"] <= 1 for row in rows)
    about = json.loads((tmp_path / "a" / "fusion.json").read_text())
    assert about["layers"] == ["first", "second"] and about["backbone"] == "tiny"
    assert about["provenance"]["validation"]["pcc"] == max(row["pcc"] for row in rows)
    photo = np.zeros((1, 32, 32, 3), np.uint8)
    weights = str(tmp_path / "a" / "fusion.safetensors")
    assert explain(backbone, photo, method="net", weights=weights).shape == (1, 32, 32)

    fusion.train_fusion(config)  # nothing is left to do
    assert read_metrics(tmp_path / "a") == rows
    with pytest.raises(ValueError, match=r"other settings.*recipe: expected .*'seed': 0.*, got .*'seed': 1[^\n]*$"):
        fusion.train_fusion(dataclasses.replace(config, recipe=dataclasses.replace(recipe, seed=1)))

    fusion.train_fusion(dataclasses.replace(config, out=tmp_path / "b", maps="computed"))
    for cached, computed in zip(rows, read_metrics(tmp_path / "b"), strict=True):
        assert cached["loss"] == pytest.approx(computed["loss"], rel=1e-2)  # kept as float16


@pytest.mark.parametrize("architecture", ["channels", "linear"])
def test_channels_are_weighed_in_frames_of_the_photographs_own_proportions(turned, backbone, tmp_path, architecture):
    recipe = Recipe(epochs=2, batch_size=4, learning_rate=1e-2)
    options = {"layers": ("first", "second"), "shrink": 16, "frame": (96, 128), "cache": tmp_path / "maps"}
    config = Config(turned, tmp_path / "a", architecture=architecture, validation=0.3, recipe=recipe, **options)
    fusion.train_fusion(config)
    about = json.loads((tmp_path / "a" / "fusion.json").read_text())
    assert about["net"]["depths"] == [4, 4] and about["ks"] == [1.0, 2.0]
    assert len(list((tmp_path / "maps").glob("maps_*.npy"))) == 2  # landscape and portrait
    weights = str(tmp_path / "a" / "fusion.safetensors")
    photos = [np.random.default_rng(2).integers(0, 256, size, dtype=np.uint8) for size in ((48, 36, 3), (36, 48, 3))]
    maps = explain(backbone, photos, method="net", weights=weights, frame=(96, 128))
    assert [importance.shape for importance in maps] == [(128, 96), (96, 128)]
    placed = explain(backbone, photos, method="net", weights=weights, frame=(96, 128), output="photo")
    assert [importance.shape for importance in placed] == [(48, 36), (36, 48)]

    fusion.train_fusion(dataclasses.replace(config, out=tmp_path / "b", maps="computed"))
    for cached, computed in zip(read_metrics(tmp_path / "a"), read_metrics(tmp_path / "b"), strict=True):
        assert cached["loss"] == pytest.approx(computed["loss"], rel=1e-3)


def test_faithfulness_is_asked_for_beside_cached_maps_too(gaze, backbone, tmp_path):
    recipe = Recipe(epochs=1, batch_size=4, faithful=0.5)
    options = {"layers": ("first", "second"), "shrink": 4, "cache": tmp_path / "maps", "recipe": recipe}
    losses = []
    for maps in ("cached", "computed"):
        fusion.train_fusion(Config(gaze, tmp_path / maps, architecture="linear", validation=0.3, maps=maps, **options))
        losses.append(read_metrics(tmp_path / maps)[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    fusion.train_fusion(
        Config(gaze, tmp_path / "gaze", architecture="linear", validation=0.3,
               **options | {"recipe": dataclasses.replace(recipe, faithful=0.0)})
    )  # fmt: skip
    # Of a network that tells no class, all maps are about as faithful: half of the loss is 1.
    alone = read_metrics(tmp_path / "gaze")[0]["loss"]
    assert losses[0] == pytest.approx((alone + 1) / 2, abs=0.1)


@pytest.mark.parametrize("maps", ["cached", "computed"])
def test_several_data_sets_are_one_each_with_its_own_sigma(gaze, turned, backbone, tmp_path, maps):
    options = {"architecture": "channels", "shrink": 16, "maps": maps, "cache": tmp_path / "maps", "frame": (96, 128)}
    options["validation"] = 0.3
    both = open_data(Config(gaze, tmp_path, also=(turned,), sigma_px=1.0, **options), backbone)
    alone = [open_data(Config(folder, tmp_path, **options), backbone) for folder in (gaze, turned)]
    assert both.ids == alone[0].ids + alone[1].ids and both.frames == alone[0].frames + alone[1].frames
    assert both.name == f"{alone[0].name} + {alone[1].name}"
    assert sorted(np.concatenate(list(both.parts.values()))) == list(range(27))
    for position in (0, 11, 12, 26):
        own = alone[position // 12].example(position % 12) if position < 24 else alone[1].example(position - 12)
        found = both.example(position)
        share = 3.0 if position < 12 else 1.0  # the first data set's sigma was given, and is 1 in place of 3
        np.testing.assert_allclose(found.pop("sigma_px") * share, own.pop("sigma_px"), rtol=1e-6)
        jax.tree.map(np.testing.assert_array_equal, found, own)


def test_the_frame_of_an_image_is_its_own(turned):
    sizes = scan(open_dataset(turned)).sizes
    frames = image_frames(sizes, (96, 128), (32, 32), step=32)
    assert sorted(set(frames)) == [(96, 128), (128, 96)] and frames.count((128, 96)) == 5
    assert image_frames(sizes[:2], None, (32, 32), step=32) == ((32, 32), (32, 32))


@pytest.mark.parametrize("name", ["metrics.jsonl", "curves.png", "checkpoints/step_00000001/mine", "fusion.json"])
def test_files_of_others_are_not_written_over(gaze, backbone, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=rf"out: .* got {name.partition('/')[0]}, which would be written over"):
        fusion.train_fusion(Config(gaze, tmp_path / "out", cache=tmp_path / "maps"))
    assert path.read_text() == "mine" and not (tmp_path / "out" / "run.json").exists()


def test_a_split_that_leaves_nothing_is_named(gaze, backbone, tmp_path):
    with pytest.raises(ValueError, match=r"validation: expected .* leaves images to validation, got 1e-09 of"):
        fusion.train_fusion(Config(gaze, tmp_path / "out", validation=1e-9, cache=tmp_path))
    assert not (tmp_path / "out").exists()  # so the corrected command works


@pytest.mark.parametrize("fold", [(0, 3), (2, 3)])
def test_a_fold_is_held_out_of_training_and_of_validation(fold):
    ids = [str(number) for number in range(60)]
    config = Config(Path(), Path(), validation=0.3, fold=fold)
    parts = training_parts(config, ids)
    together = np.concatenate([parts["train"], parts["validation"], k_folds(ids, 3)[fold[0]]])
    assert sorted(together) == list(range(60)) and min(map(len, parts.values())) > 4
    with pytest.raises(ValueError, match="fold: expected 0 to 2 of 3, got 3"):
        training_parts(dataclasses.replace(config, fold=(3, 3)), ids)
