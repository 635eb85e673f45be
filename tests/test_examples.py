"""The examples run, and what they write and print is what their docstrings promise."""

import dataclasses
import functools
import re
from importlib.resources import files
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("grain", reason="needs Grain")
pytest.importorskip("pyarrow", reason="needs pyarrow")
pytest.importorskip("skimage", reason="needs scikit-image")


import mlfem_jax as mlfem
from examples import (
    demo,
    evaluate_your_model,
    gaze_and_metrics,
    layers_and_fusions,
    own_network,
    quickstart,
    train_fusion as fusion,
)
from mlfem_jax.attribution.registry import METHODS as ALL
from mlfem_jax.cli import run_command
from mlfem_jax.data import photo_record
from mlfem_jax.fusion import load_fusion
from mlfem_jax.report import write
from mlfem_jax.scores import run
from mlfem_jax.scores.table import read_scores
from tests.layout import ROOT
from tests.networks import brightness_network

PHOTO = Path(str(files("skimage") / "data" / "coffee.png"))
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def small(load):
    """The backbone with an input so small that its forward compiles and runs fast; its weights do not mind."""
    return lambda name: dataclasses.replace(load(name), input_size=(96, 96))


def test_photographs_without_gaze_are_scored_against_the_network(tmp_path):
    config = run.Config(
        Path(),
        tmp_path / "scores",
        methods=("center", "edge"),
        metrics=("model",),
        humans=False,
        batch_size=2,
        map_size=8,
    )
    dataset = {"name": "photographs", "sigma_px": 1.0, "class_names": []}
    run.score_records(config, [photo_record(PHOTO)], dataset, brightness_network())
    rows = read_scores(tmp_path / "scores").to_pylist()
    assert [row["method"] for row in rows] == ["center", "edge"]
    assert all(np.isfinite(row[name]) for row in rows for name in ("insertion", "deletion", "drop", "increase"))
    write.write_report(write.Config(tmp_path / "scores", tmp_path, resamples=9))
    page = (tmp_path / "report.html").read_text()
    assert '"gaze":false' in page and "what custom looked at" in page


def test_the_demo_names_methods_that_there_are():
    assert set(demo.METHODS) <= set(ALL)


def test_the_examples_are_short_and_say_how_they_are_run():
    lines = {path.name: path.read_text().splitlines() for path in SCRIPTS}
    assert {name for name, text in lines.items() if len(text) >= 60} == set()
    assert [name for name, text in lines.items() if not text[2].startswith(f"    python examples/{name} ")] == []
    table = (ROOT / "examples" / "README.md").read_text()
    assert re.findall(r"^\| \[(\w+\.py)\]\(\1\)", table, re.MULTILINE) != []
    assert sorted(re.findall(r"^\| \[(\w+\.py)\]\(\1\)", table, re.MULTILINE)) == sorted(lines)


def test_quickstart_names_the_thing_and_keeps_its_map(tmp_path, capsys, monkeypatch):
    quickstart.quickstart(out=tmp_path)
    assert capsys.readouterr().out == f"espresso: open {tmp_path / 'map.png'}\n"
    photo, importance = pixels(PHOTO), np.load(tmp_path / "map.npy")
    assert importance.shape == photo.shape[:2] and importance.dtype == np.float32
    assert importance.min() >= 0 and 0.9 < importance.max() <= 1
    drawn = pixels(tmp_path / "map.png")
    assert np.array_equal(
        drawn[importance < 1e-3], photo[importance < 1e-3]
    )  # the heat leaves alone what did not matter
    assert np.abs(drawn - photo)[importance > 0.8].mean() > 30


def test_quickstart_ends_with_one_line_for_a_photograph_that_is_none(tmp_path, capsys):
    (tmp_path / "holiday.jpg").write_text("no picture")
    status = run_command("quickstart", lambda: quickstart.quickstart(photo=tmp_path / "holiday.jpg", out=tmp_path))
    said = capsys.readouterr().err.splitlines()
    assert status == 2 and len(said) == 1 and said[0].startswith("quickstart: ") and "holiday.jpg" in said[0]
    assert not (tmp_path / "map.png").exists()


def test_layers_and_fusions_draws_a_panel_for_each(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mlfem, "load_backbone", small(mlfem.load_backbone), raising=False)
    layers_and_fusions.layers_and_fusions(out=tmp_path)
    assert capsys.readouterr().out == f"17 layers, 6 fusions: open {tmp_path / 'sheet.png'}\n"
    sheet = pixels(tmp_path / "sheet.png")
    # One row of the photograph and six fusions, three rows of seven layers at most; each 150 pixels high.
    assert sheet.shape[1] == 2 * 28 + 7 * (225 + 12) - 12 and 4 * 150 < sheet.shape[0] < 4 * 250
    colored = np.ptp(sheet, axis=2) > 60
    assert colored.any(axis=1).sum() > 3 * 150  # heat in every row of panels


def test_gaze_and_metrics_prints_what_a_center_prior_earns(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gaze_and_metrics, "METHODS", ("center", "edge"))
    monkeypatch.setattr(mlfem, "load_backbone", lambda name: brightness_network(), raising=False)
    gaze_and_metrics.gaze_and_metrics(out=tmp_path)
    header, center, edge, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["PCC", "SIM", "KL", "NSS", "AUC"] and last.endswith(str(tmp_path / "gaze.png"))
    pcc, sim, kl, nss, auc = map(float, center.split()[1:])
    assert 0 < pcc < 1 and 0 < sim < 1 and kl > 0 and nss > 0 and 0.5 < auc < 1  # a face fills the photograph
    assert edge.split()[0] == "edge" and edge.split()[1:] != center.split()[1:]
    photo, gaze = np.split(pixels(tmp_path / "gaze.png"), 4, axis=1)[:2]
    changed = np.abs(gaze - photo).sum(axis=2)
    assert changed[115, 170] > 100 and changed[135, 317] > 100 and changed[245, 263] > 100  # eyes and nose
    assert changed[20, 20] < 10


def test_own_network_looks_at_the_disc(tmp_path, capsys):
    with jax.numpy_dtype_promotion("standard"):  # optax.adam takes powers of its integer step
        own_network.own_network(steps=100, out=tmp_path)
    add, grad_cam, last = capsys.readouterr().out.splitlines()
    shares = [[int(share) for share in re.findall(r"(\d+)%", line)] for line in (add, grad_cam)]
    assert shares[0][0] > 4 * shares[0][1] and shares[1][0] > 8 * shares[1][1]
    assert last == f"open {tmp_path / 'own.png'}" and pixels(tmp_path / "own.png").shape == (384, 640, 3)


def test_own_network_draws_discs_in_their_colors():
    photos, discs, colors = own_network.draw(np.random.default_rng(3), 4)
    for photo, disc, color in zip(photos, discs, colors, strict=True):
        assert photo[disc].tolist() == [[220 * (channel == color) for channel in range(3)]] * disc.sum()
        assert 240 < disc.sum() < 265  # pi 9^2 is 254
        assert (np.ptp(photo[~disc], axis=1) == 0).all()


def test_train_fusion_prepares_trains_and_draws(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fusion, "NAMES", fusion.NAMES[1:5])
    fusion.train_fusion(epochs=2, out=tmp_path)
    said = capsys.readouterr().out
    assert "split full: 4 images, 120 fixations" in said and "nothing was clipped or left out" in said
    trained = load_fusion(tmp_path / "run" / "fusion.safetensors")
    assert trained.backbone == "efficientnet_lite0" and trained.ks == (1.0, 2.0) and len(trained.layers) == 17
    drawn = pixels(tmp_path / "fusion.png")
    assert drawn.shape == (3 * 224, 4 * 224, 3)
    photos, add, net = np.split(drawn, 3)
    assert np.abs(add - photos).mean() > 1 and np.abs(net - photos).mean() > 1 and np.abs(add - net).mean() > 1
    assert said.splitlines()[-1] == f"open {tmp_path / 'fusion.png'} and {tmp_path / 'run' / 'curves.png'}"
    assert (tmp_path / "run" / "curves.png").is_file()


def test_synthetic_observers_look_at_what_is_colorful(tmp_path):
    gray = np.full((20, 30, 3), 90, np.uint8)
    gray[5:10, 3:9] = 255, 0, 0
    Image.fromarray(gray).save(tmp_path / "patch.png")
    fusion.record([tmp_path / "patch.png"], tmp_path / "own")
    header, *rows = (tmp_path / "own" / "fixations.csv").read_text().splitlines()
    assert header == "image,observer,x,y" and len(rows) == 30
    places = np.array([row.split(",")[2:] for row in rows], int)
    assert ((places >= (3, 5)) & (places < (9, 10))).all()
    assert [path.name for path in (tmp_path / "own" / "images").iterdir()] == ["patch.png"]


def test_evaluate_your_model_finds_a_class_map_more_faithful_than_chance(tmp_path, capsys, monkeypatch, optimized):
    monkeypatch.setattr(evaluate_your_model, "PHOTOGRAPHS", ("chelsea.png", "coffee.png", "rocket.jpg"))
    from_nnx = mlfem.from_nnx  # a quarter of the pixels
    monkeypatch.setattr(mlfem, "from_nnx", lambda *given, **named: from_nnx(*given, **named | {"input_size": (64, 64)}))
    monkeypatch.setattr(evaluate_your_model, "Scores", functools.partial(evaluate_your_model.Scores, batch_size=3))
    monkeypatch.setattr(evaluate_your_model, "Report", functools.partial(evaluate_your_model.Report, resamples=99))
    evaluate_your_model.evaluate_your_model(out=tmp_path)
    said = capsys.readouterr().out
    insertion = {name: float(value) for name, value in re.findall(r"^(\w+) +insertion (\S+)$", said, re.MULTILINE)}
    assert insertion.keys() == set(evaluate_your_model.METHODS)
    assert insertion["grad_cam"] > insertion["random"] + 0.03
    assert said.splitlines()[-1] == f"open {tmp_path / 'report.html'}"
    assert {"coffee", "chelsea", "rocket"} == {row["id"] for row in read_scores(tmp_path / "scores").to_pylist()}
    assert "what custom looked at" in (tmp_path / "report.html").read_text()


def test_the_hand_set_network_says_which_color_it_sees():
    images = np.zeros((3, 32, 32, 3), np.float32)
    for color in range(3):
        images[color, 8:24, 8:24, color] = 0.6
    # A patch inside is 0.6 of one color: 0.6 * (1.5 - 0.5) = 0.6 for that color, negative for the others.
    np.testing.assert_allclose(evaluate_your_model.Colors()(images), 6 * np.eye(3), atol=1e-5)
