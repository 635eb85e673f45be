import dataclasses
import io
import json
import re
import shutil
import signal
import socket
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
import tyro
from PIL import Image

pytest.importorskip("grain", reason="needs Grain")
pytest.importorskip("pyarrow", reason="needs pyarrow")

from mlfem_jax import attribution, faithfulness
from mlfem_jax.cli import main
from mlfem_jax.data.batches import read_batches
from mlfem_jax.data.example import ExampleFormat, record_id
from mlfem_jax.engine import memory, stream
from mlfem_jax.engine.run import explain
from mlfem_jax.gaze.fitted import DensityFit, fitted_density
from mlfem_jax.runs import read_settings
from mlfem_jax.scores.config import Config
from mlfem_jax.scores.run import score_records
from mlfem_jax.scores.table import read_pictures, read_scores, score_matrix
from tests.data.gaze_records import encode, make_record
from tests.forked import ended, start
from tests.networks import brightness_network
from tests.reference_metrics import (
    auc_shuffled as slow_auc_shuffled,
    information_gain as slow_information_gain,
    nss as slow_nss,
    pcc as slow_pcc,
)
from tests.scores import score_network
from tests.scores.score_network import CONFIG, DATASET, tiny_source


@pytest.fixture(scope="module")
def network():
    return brightness_network()


def scored_rows(out, network, **options):
    score_records(dataclasses.replace(CONFIG, out=out, **options), tiny_source(), DATASET, network)
    return read_scores(out).to_pylist()


def separately(*runs):
    """What became of processes that score side by side: (exit code, standard output, standard error) of each."""
    with tempfile.TemporaryDirectory() as folder:
        errors = [Path(folder, str(place)) for place in range(len(runs))]
        started = [start(score_network.main, *run, errors=path) for run, path in zip(runs, errors, strict=True)]
        return [(*ended(each), path.read_text()) for each, path in zip(started, errors, strict=True)]


def same_rows(first, second):
    assert len(first) == len(second)
    for row, twin in zip(first, second, strict=True):
        assert row.keys() == twin.keys()
        for name, value in row.items():
            if isinstance(value, float):
                np.testing.assert_allclose(twin[name], value, atol=1e-5, err_msg=name)
            else:
                assert twin[name] == value, name


@pytest.fixture(scope="module")
def whole(tmp_path_factory, network):
    """(folder, rows) of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "scores"
    return out, scored_rows(out, network)


def test_rows_are_those_of_slow_references(whole, network):
    _, rows = whole
    names = ["add:alpha=0.25", "center", "uniform", "humans"]
    assert [(row["position"], row["method"]) for row in rows] == [(i, name) for i in range(12) for name in names]
    example_format = ExampleFormat((8, 8), 4, classes=3)
    batch = next(iter(read_batches(tiny_source(), example_format, batch_size=12, process_index=0, process_count=1)))
    maps = np.asarray(explain(network, batch.images, method="add", alpha=0.25))
    y, x = np.mgrid[:8, :8]
    for i in range(12):
        row = rows[4 * i]
        points = batch.fixations[i][batch.fixation_mask[i]].astype(float)
        # sigma 2 px of a 12 x 16 photograph in a frame of 8 x 8
        bells = [np.exp(-0.5 * (((y - b) / (4 / 3)) ** 2 + (x - a) ** 2)) for b, a in points]
        if not bells:
            assert np.isnan(row["pcc"]) and np.isnan(row["nss"])
            continue
        gfdm = np.sum([bell for bell in bells], axis=0)
        assert row["pcc"] == pytest.approx(slow_pcc(maps[i], gfdm), abs=1e-4)
        assert row["nss"] == pytest.approx(slow_nss(maps[i], points), abs=1e-4)


def test_fixations_on_the_other_images_are_what_a_map_has_to_beat(network, tmp_path):
    rows = scored_rows(tmp_path, network, methods=("edge",), metrics=("auc_shuffled", "information_gain"), humans=False)
    example_format = ExampleFormat((8, 8), 4, classes=3)
    batch = next(iter(read_batches(tiny_source(), example_format, batch_size=12, process_index=0, process_count=1)))
    maps = np.asarray(explain(network, batch.images, method="edge"), float)
    y, x = np.mgrid[:8, :8]
    points = [batch.fixations[i][batch.fixation_mask[i]].astype(float) for i in range(12)]
    for i in range(12):
        if len(points[i]) == 0:
            assert np.isnan(rows[i]["auc_shuffled"]) and np.isnan(rows[i]["information_gain"])
            continue
        others = np.concatenate([points[j] for j in range(12) if j != i])
        assert rows[i]["auc_shuffled"] == pytest.approx(slow_auc_shuffled(maps[i], points[i], others), abs=1e-5)
        # sigma 2 px of a 12 x 16 photograph in a frame of 8 x 8, on the centers of the pixels that were looked at
        centers = np.floor(others + 0.5)
        prior = sum(np.exp(-0.5 * (((y - b) / (4 / 3)) ** 2 + (x - a) ** 2)) for b, a in centers)
        expected = slow_information_gain(maps[i], points[i], prior)
        assert rows[i]["information_gain"] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_scores_against_the_model_are_those_of_the_faithfulness_functions(network, tmp_path):
    metrics = ("drop", "increase", "irof", "stability", "randomization", "random_logit", "emd")
    rows = scored_rows(tmp_path, network, methods=("add:alpha=0.25",), metrics=metrics)
    batch = next(iter(read_batches(tiny_source(), ExampleFormat((8, 8), 4), batch_size=12)))
    maps = explain(network, batch.images, method="add", alpha=0.25)
    method, key = attribution.method("add", alpha=0.25), jax.random.key(0)
    for i in (1, 2, 4):
        own, humans = rows[2 * i], rows[2 * i + 1]
        drop, increase = faithfulness.confidence_change(network, batch.images[i], maps[i])
        assert (own["drop"], own["increase"]) == pytest.approx((float(drop), float(increase)), abs=1e-6)
        lipschitz = faithfulness.local_lipschitz(network, key, batch.images[i], method=method)
        assert own["stability"] == pytest.approx(float(lipschitz), rel=1e-4)
        forgotten = faithfulness.randomization_check(network, key, batch.images[i], method=method)
        assert own["randomization"] == pytest.approx(float(forgotten.mean()), abs=1e-5)
        assert own["random_logit"] == pytest.approx(1, abs=1e-5)  # it explains no class
        labels = attribution.superpixels(jax.numpy.asarray(batch.images[i : i + 1] / np.float32(255)), 40)[0]
        irof = faithfulness.irof(network, batch.images[i], maps[i], labels, most=80)
        assert own["irof"] == pytest.approx(float(irof), abs=1e-5)
        assert own["emd"] == 0.0  # 8 x 8 pixels are one cell of 32
        assert np.isnan(humans["stability"]) and np.isnan(humans["randomization"])


def test_a_smoothed_map_is_a_column_of_the_same_run(tmp_path, network):
    traces = []
    counting = brightness_network(traces=traces)
    smooth = ("none", "gaze", "4")
    rows = scored_rows(tmp_path / "a", counting, metrics=("pcc", "nss", "drop"), smooth=smooth)
    columns = ["pcc", "pcc@gaze", "pcc@4", "nss", "nss@gaze", "nss@4", "drop"]
    assert [name for name in rows[0] if name.split("@")[0] in ("pcc", "nss", "drop")] == columns
    assert traces == _traces_of(tmp_path / "b")  # no forward more than for the raw maps alone
    example_format = ExampleFormat((8, 8), 4, classes=3)
    batch = next(iter(read_batches(tiny_source(), example_format, batch_size=12, process_index=0, process_count=1)))
    maps = np.asarray(explain(network, batch.images, method="add", alpha=0.25), float)
    y, x = np.mgrid[:8, :8]
    for i in (1, 2, 3, 4, 6):
        points = batch.fixations[i][batch.fixation_mask[i]].astype(float)
        for name, sigma_px in (("gaze", 2), ("4", 4)):
            sy, sx = sigma_px * 8 / 12, sigma_px * 8 / 16
            blurred = np.zeros((8, 8))
            for a in range(8):
                for b in range(8):
                    bell = np.exp(-0.5 * (((y - a) / sy) ** 2 + ((x - b) / sx) ** 2))
                    blurred[a, b] = (bell * maps[i]).sum() / bell.sum()
            assert rows[4 * i][f"nss@{name}"] == pytest.approx(slow_nss(blurred, points), abs=1e-4)
        assert np.isnan(rows[4 * i + 2]["pcc@gaze"])  # uniform
        humans = rows[4 * i + 3]
        assert humans["pcc@gaze"] == humans["pcc"] or np.isnan(humans["pcc"])


def _traces_of(out):
    traces = []
    scored_rows(out, brightness_network(traces=traces), metrics=("pcc", "nss", "drop"))
    return traces


def native_photos():
    """Photographs of noise of two sizes, with fixations in whole pixels."""
    rng = np.random.default_rng(3)
    records = []
    for i in range(4):
        shape = ((12, 16), (10, 20))[i % 2]
        photo = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        points = np.float32(rng.integers(0, shape, (6, 2)))
        records.append(make_record(i, shape=shape, image=encode(photo), fixations=6) | {"fixations": points})
    return records


def test_photographs_keep_their_proportions_on_the_way_to_the_network(tmp_path, network):
    """Two parts, each of two or three frames: every row is of its own image, by the map of its own frame."""
    rng, records = np.random.default_rng(5), []
    for i in range(7):
        shape = ((12, 16), (20, 10), (10, 20))[i % 3]
        photo = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        points = np.float32(rng.integers(0, shape, (6, 2)))
        records.append(make_record(i, shape=shape, image=encode(photo), fixations=6) | {"fixations": points})
    config = dataclasses.replace(CONFIG, methods=("edge",), metrics=("nss",), part_size=4, batch_size=2)
    score_records(dataclasses.replace(config, out=tmp_path, frame=(64, 64)), records, DATASET, network)
    rows = [row for row in read_scores(tmp_path).to_pylist() if row["method"] == "edge"]
    assert [row["id"] for row in rows] == [f"image{i}" for i in range(7)]
    photos = [np.asarray(Image.open(io.BytesIO(record["image"]))) for record in records]
    maps = explain(network, photos, method="edge", frame=(64, 64))
    assert {importance.shape for importance in maps} == {(64, 64), (96, 32), (32, 96)}
    for row, record, importance in zip(rows, records, maps, strict=True):
        own = np.asarray(jax.image.resize(importance, record["size"], "linear", antialias=False))
        assert row["nss"] == pytest.approx(slow_nss(own, record["fixations"].astype(float)), abs=1e-3)
    with pytest.raises(ValueError, match="compare_in: expected photo where there is a frame"):
        dataclasses.replace(config, frame=(64, 64), compare_in="input")


def test_the_photographs_own_frame(tmp_path, network):
    records = native_photos()
    config = dataclasses.replace(CONFIG, methods=("edge",), metrics=("pcc", "nss", "auc_shuffled"), compare_in="photo")
    score_records(dataclasses.replace(config, out=tmp_path), records, DATASET, network)
    rows = read_scores(tmp_path).to_pylist()
    batch = next(iter(read_batches(records, ExampleFormat((8, 8), 6, classes=3), batch_size=4)))
    maps = np.asarray(explain(network, batch.images, method="edge"), float)
    for i, record in enumerate(records):
        height, width = record["size"]
        own = np.asarray(jax.image.resize(maps[i], (height, width), "linear", antialias=False))
        points = record["fixations"].astype(float)
        y, x = np.mgrid[:height, :width]
        gfdm = sum(np.exp(-0.5 * ((y - b) ** 2 + (x - a) ** 2) / 4) for b, a in points)
        row = rows[2 * i]
        assert row["nss"] == pytest.approx(slow_nss(own, points), abs=1e-4)
        assert row["pcc"] == pytest.approx(slow_pcc(own, gfdm), abs=1e-4)
        if i % 2:  # of the canvas's width; the others' fixations come from 16 to 20 and from 12 to 10 pixels
            others = []
            for j, other in enumerate(records):
                if j != i:
                    h, w = other["size"]
                    stretched = np.floor((other["fixations"] + 0.5) * np.array([12 / h, 20 / w]))
                    moved = (2 * stretched + 1) * np.array([height, width]) / (2 * np.array([12, 20]))
                    others += np.floor(moved).tolist()
            expected = slow_auc_shuffled(own, points, np.array(others))
            assert row["auc_shuffled"] == pytest.approx(expected, abs=0.03)


def test_the_gold_standard_is_the_mean_over_observers(tmp_path, network):
    records = native_photos()[::2]
    config = dataclasses.replace(CONFIG, out=tmp_path, methods=("center",), gold=True, compare_in="photo")
    score_records(config, records, DATASET, network)
    rows = read_scores(tmp_path).to_pylist()
    assert [row["method"] for row in rows[:4]] == ["center", "humans", "observers", "others"]
    y, x = np.mgrid[:12, :16]

    def kde(points):
        density = sum(np.exp(-0.5 * ((y - b) ** 2 + (x - a) ** 2) / 4) for b, a in points.astype(float))
        return density / density.sum()

    for i, record in enumerate(records):
        own = record["observers"]
        points = record["fixations"]
        scores = [slow_nss(0.99 * kde(points[own != o]) + 0.01 / 192, points[own == o].astype(float)) for o in range(4)]
        assert rows[4 * i + 2]["nss"] == pytest.approx(np.mean(scores), abs=1e-3)
        prior = kde(records[1 - i]["fixations"])
        assert rows[4 * i + 3]["nss"] == pytest.approx(slow_nss(prior, record["fixations"].astype(float)), abs=1e-3)
    with pytest.raises(ValueError, match="gold: expected at least two observers"):
        score_records(config, [r | {"observers": r["observers"] * 0} for r in records], DATASET, network)


def test_bars_are_scored_where_that_is_asked_for(tmp_path, network):
    record = native_photos()[0] | {"content_box": np.array([0, 4, 12, 12], np.int32)}
    scores = {}
    for bars in (False, True):
        config = dataclasses.replace(
            CONFIG, out=tmp_path / str(bars), methods=("center",), compare_in="photo", bars=bars
        )
        score_records(config, [record], DATASET, network)
        scores[bars] = read_scores(tmp_path / str(bars)).to_pylist()[0]["nss"]
    bell = np.asarray(explain(network, np.zeros((1, 8, 8, 3), np.uint8), method="center")[0])
    own = np.asarray(jax.image.resize(bell, (12, 16), "linear", antialias=False), float)
    points = record["fixations"].astype(float)
    inside = points[(points[:, 1] >= 4) & (points[:, 1] < 12)] - np.array([0, 4])
    assert scores[True] == pytest.approx(slow_nss(own, points), abs=1e-4)
    assert scores[False] == pytest.approx(slow_nss(own[:, 4:12], inside), abs=1e-4)


def test_fitted_densities_are_a_column(tmp_path, network):
    fit = {"sigma_px": 0.1, "curve": np.linspace(0.1, 1, 20).tolist(), "rings": [2.0] * 6 + [1.0] * 6}
    (tmp_path / "fits.json").write_text(json.dumps({"fits": {"edge": fit, "fem": fit}}))
    options = {"methods": ("edge",), "metrics": ("information_gain",), "humans": False, "smooth": ("none", "fit")}
    rows = scored_rows(tmp_path / "a", network, fits=tmp_path / "fits.json", **options)
    batch = next(iter(read_batches(tiny_source(), ExampleFormat((8, 8), 4, classes=3), batch_size=12)))
    maps = explain(network, batch.images, method="edge")
    y, x = np.mgrid[:8, :8]
    points = [batch.fixations[i][batch.fixation_mask[i]].astype(float) for i in range(12)]
    for i in (1, 2, 4):
        density = fitted_density(maps[i], DensityFit.of(fit | {"sigma_px": 0.8}))  # a tenth of the frame's height
        centers = np.floor(np.concatenate([points[j] for j in range(12) if j != i]) + 0.5)
        prior = sum(np.exp(-0.5 * (((y - b) / (4 / 3)) ** 2 + (x - a) ** 2)) for b, a in centers)
        expected = slow_information_gain(np.asarray(density, float), points[i], prior)
        assert rows[i]["information_gain@fit"] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert read_settings(tmp_path / "a")["fits"][0]["rings"] == fit["rings"]
    with pytest.raises(ValueError, match="fits of center, got none of center"):
        scored_rows(tmp_path / "b", network, fits=tmp_path / "fits.json", **options | {"methods": ("center",)})


def test_fits_are_made_on_other_images(tmp_path, network, monkeypatch, capsys):
    from mlfem_jax.scores import fit

    monkeypatch.setattr(fit, "open_dataset", lambda *_: tiny_source())
    monkeypatch.setattr(fit, "load_backbone", lambda *_: network)
    fit.fit(tmp_path, tmp_path / "fits.json", methods=("edge", "add:alpha=0.3"), fold=(0, 2), images=5)
    assert "2 methods fitted on" in capsys.readouterr().out
    edge, add = fit.read_fits(tmp_path / "fits.json", ("edge", "add:alpha=0.3"))
    assert edge != add and all(np.diff(add.curve) >= 0)
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(ValueError, match="expected what `mlfem fit` wrote"):
        fit.read_fits(tmp_path / "bad.json", ("edge",))
    with pytest.raises(FileExistsError, match=r"got bad\.json, which would be written over"):
        fit.fit(tmp_path, tmp_path / "bad.json", methods=("edge",), images=5)
    assert (tmp_path / "bad.json").read_text() == "[]"
    fit.fit(tmp_path, tmp_path / "fits.json", methods=("edge",), images=5)  # our own, made anew
    assert fit.read_fits(tmp_path / "fits.json", ("edge",)) != (edge,)


def test_maps_of_a_data_set_are_written_and_read_back(tmp_path, network, monkeypatch, capsys):
    from mlfem_jax.gallery import export

    monkeypatch.setattr(export, "open_dataset", lambda *_: tiny_source())
    monkeypatch.setattr(export, "load_backbone", lambda *_: network)
    export.export(export.Config(tmp_path, tmp_path / "maps", method="edge", form="npy"))
    assert f"{tmp_path / 'maps'}: 12 maps of edge" in capsys.readouterr().out
    folder = f"maps:{tmp_path / 'maps'}"
    rows = scored_rows(tmp_path / "a", network, methods=("edge", folder), humans=False, compare_in="photo")
    for i in (1, 2, 4, 6):  # by way of the network's frame and back, which blurs 12 x 16 pixels a little
        assert rows[2 * i + 1]["nss"] == pytest.approx(rows[2 * i]["nss"], abs=0.3)
    export.export(export.Config(tmp_path, tmp_path / "png", method="edge"))
    from PIL import Image

    with Image.open(tmp_path / "png" / "image3.png") as picture:
        assert picture.size == (16, 12)
    records = [record | {"id": f"day/{record_id(record)}".encode()} for record in tiny_source()]
    monkeypatch.setattr(export, "open_dataset", lambda *_: records)
    for _ in range(2):  # our own files, in subfolders too, are made anew
        export.export(export.Config(tmp_path, tmp_path / "png", method="edge"))
    (tmp_path / "png/day/image3.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"got day/image3\.png, which would be written over"):
        export.export(export.Config(tmp_path, tmp_path / "png", method="edge"))


def test_other_peoples_maps_are_a_method(tmp_path, network, capsys):
    maps = tmp_path / "maps"
    maps.mkdir()
    photos = {f"image{i}": np.float32(np.random.default_rng(i).random((12, 16))) for i in range(11)}
    for name, values in photos.items():
        np.save(maps / f"{name}.npy", values)
    np.save(maps / "other.npy", np.ones((3, 3)))
    np.save(maps / "image5.npy", np.ones((12, 12)))
    rows = scored_rows(tmp_path / "a", network, methods=("edge", f"maps:{maps}"), smooth=("none", "gaze"), humans=False)
    assert f"maps:{maps}: 10 maps, 1 missing (image11), 1 extra (" in capsys.readouterr().err
    example_format = ExampleFormat((8, 8), 4, classes=3)
    batch = next(iter(read_batches(tiny_source(), example_format, batch_size=12, process_index=0, process_count=1)))
    from PIL import Image

    for i in (1, 2, 4, 6):
        row = rows[2 * i + 1]
        frame = np.asarray(Image.fromarray(photos[f"image{i}"]).resize((8, 8), Image.Resampling.BILINEAR), float)
        points = batch.fixations[i][batch.fixation_mask[i]].astype(float)
        assert row["method"] == f"maps:{maps}" and row["nss"] == pytest.approx(slow_nss(frame, points), abs=1e-4)
        assert np.isfinite(row["nss@gaze"])
    assert all(rows[2 * i + 1]["constant"] and np.isnan(rows[2 * i + 1]["nss"]) for i in (5, 11))
    assert read_settings(tmp_path / "a")["methods"][f"maps:{maps}"] == {"path": str(maps)}


def test_two_tables_are_compared_in_one_call(tmp_path, network, capsys):
    for name, methods in (("a", ("edge", "center")), ("b", ("edge", "fem"))):
        scored_rows(tmp_path / name, network, methods=methods, humans=False, sigma_px=2.0 if name == "a" else 3.0)
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c.csv")]) == 0
    assert "PCC" in capsys.readouterr().out
    header, *lines = [line.split(",") for line in (tmp_path / "c.csv").read_text().splitlines()]
    rows = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    assert set(rows) == {"pcc", "nss"} and rows["nss"]["method"] == "edge"
    assert rows["nss"]["ties"] == rows["nss"]["images"] == "9" and float(rows["nss"]["p"]) == 1  # sigma moves no NSS
    old, new = (score_matrix(read_scores(tmp_path / name), "pcc", ("edge",))[:, 0] for name in ("a", "b"))
    assert float(rows["pcc"]["difference"]) == pytest.approx(np.nanmean(new - old), abs=1e-5)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path)]) == 2
    (tmp_path / "mine.csv").write_text("mine")
    names = [str(tmp_path / name) for name in "ab"]
    for options in (["--out", str(tmp_path / "mine.csv")], ["--resamples", "0"]):
        capsys.readouterr()
        assert main(["compare", *names, *options]) == 2
        assert re.search(r"mine\.csv, which would be written over|resamples: expected", capsys.readouterr().err)
    assert (tmp_path / "mine.csv").read_text() == "mine"


def test_labels_predictions_and_clutter(whole):
    _, rows = whole
    photos = np.random.default_rng(0).integers(0, 256, (12, 12, 16, 3), dtype=np.uint8)
    for row in rows:
        i = row["position"]
        assert row["id"] == f"image{i}" and row["labels"] == [i % 3] and row["clutter"] == i
        if np.ptp(np.sort(photos[i].mean((0, 1)))[1:]) > 1:  # resizing moves the means a little
            assert row["prediction"] == photos[i].mean((0, 1)).argmax()
        assert row["correct"] == (row["prediction"] == i % 3)
        if row["method"] in ("uniform", "center"):
            assert row["constant"] == (row["method"] == "uniform")


def test_undefined_values_are_shown(tmp_path, network, capsys):
    scored_rows(tmp_path / "a", network, methods=("edge", "uniform"), humans=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if "uniform" in line or "edge" in line]
    # 3 of the 12 images have no fixation
    assert [[word for word in line.split() if word != "│"] for line in lines] == [
        ["edge", "12", "0", "3", "3"],
        ["uniform", "12", "12", "12", "12"],
    ]


def test_a_multi_label_image_is_correct_where_every_class_present_is_found(tmp_path, network):
    source = tiny_source(3)
    photo = source[0]["image"]
    labels = ([0, 1], [2], [])
    source = [
        record | {"image": photo, "labels": np.array(own, int)} for record, own in zip(source, labels, strict=True)
    ]

    def apply(params, inputs):
        logits, activations = network.apply(params, inputs)
        return logits * np.float32([1, 1, -1])[None], activations

    low_blue = dataclasses.replace(network, apply=apply)
    score_records(dataclasses.replace(CONFIG, out=tmp_path, task="multi", methods=("fem",)), source, DATASET, low_blue)
    table = read_scores(tmp_path).to_pylist()
    assert [row["correct"] for row in table if row["method"] == "fem"] == [True, False, None]


def test_neither_batches_nor_parts_change_scores(whole, network, tmp_path):
    rows = scored_rows(tmp_path / "a", network, batch_size=8, part_size=5)
    same_rows(whole[1], rows)


def test_auto_takes_what_fits_and_changes_no_score(whole, network, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "largest_batch", lambda bytes_of, most, limit: asked.append((bytes_of(1), most)) or 4)
    same_rows(whole[1], scored_rows(tmp_path, network, batch_size="auto"))
    ((image_bytes, most),) = asked
    assert most == 12 and image_bytes > 8 * 8 * 3


def test_out_of_memory_is_explained(network, tmp_path, monkeypatch):
    def exhausted(*arguments, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.")

    monkeypatch.setattr(stream, "run_batch", exhausted)
    with pytest.raises(MemoryError, match=r"batch_size: expected .* the memory of .*, got 3 images, which need .* GiB"):
        scored_rows(tmp_path, network)


def test_a_killed_run_goes_on_where_it_was(whole, tmp_path):
    ((code, _, errors),) = separately((tmp_path, 9, 0, 1, 3))
    assert code == -signal.SIGKILL, errors
    parts = {path: path.stat().st_mtime_ns for path in tmp_path.glob("scores-*.parquet")}
    assert 0 < len(parts) < 6
    ((code, _, errors),) = separately((tmp_path, -1, 0, 1, 3))
    assert code == 0, errors
    assert all(path.stat().st_mtime_ns == time for path, time in parts.items())
    same_rows(whole[1], read_scores(tmp_path).to_pylist())


def test_two_processes_with_eight_devices_write_their_own_parts(whole, tmp_path, network):
    ((code, _, errors),) = separately((tmp_path, -1, 1, 2, 8, None, 8))
    assert code == 0 and "3 of 6 parts are missing, which other processes have to write" in errors
    assert [path.name for path in sorted(tmp_path.glob("scores-*"))] == [f"scores-0000{i}.parquet" for i in (1, 3, 5)]
    score_records(
        dataclasses.replace(CONFIG, out=tmp_path, process_index=0, process_count=2), tiny_source(), DATASET, network
    )
    same_rows(whole[1], read_scores(tmp_path).to_pylist())


def joined(out, killed_at):
    """Two processes that JAX has joined; the second dies at a record, if at all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    return separately(*((out, killed_at if i else -1, i, 2, 3, coordinator) for i in range(2)))


def test_two_processes_that_jax_joined_write_their_own_parts(whole, tmp_path):
    (first, said, _), (second, nothing, _) = both = joined(tmp_path, -1)
    assert (first, second) == (0, 0), both
    assert " 12 " in said and not nothing, "the first waits, and counts what is undefined"
    same_rows(whole[1], read_scores(tmp_path).to_pylist())


def test_a_killed_process_ends_the_others_and_a_new_start_goes_on(whole, tmp_path):
    (first, _, errors), (second, _, _) = joined(tmp_path, 6)
    assert second == -signal.SIGKILL
    assert first not in (0, None) and "another task died" in errors
    parts = {path: path.stat().st_mtime_ns for path in tmp_path.glob("scores-*.parquet")}
    assert 0 < len(parts) < 6
    assert [code for code, _, _ in joined(tmp_path, -1)] == [0, 0]
    assert all(path.stat().st_mtime_ns == time for path, time in parts.items())
    same_rows(whole[1], read_scores(tmp_path).to_pylist())


@pytest.mark.parametrize("name", ["scores-00000.parquet", "pictures-00000.parquet"])
@pytest.mark.parametrize("damage", ["empty", "cut", "zeros"])
def test_a_damaged_part_is_named(whole, tmp_path, name, damage):
    shutil.copytree(whole[0], tmp_path / "scores")
    path = tmp_path / "scores" / name
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": data[:-40], "zeros": data[:8] + bytes(200) + data[208:]}[damage])
    with pytest.raises(ValueError, match=rf"^{path}: expected a part of a table of scores, got something else .*\)$"):
        read_scores(tmp_path / "scores")
        list(read_pictures(tmp_path / "scores"))


def test_other_settings_in_the_same_folder_are_refused(whole, network):
    with pytest.raises(
        ValueError,
        match=r"(?s)other settings.*methods: expected {'add.*got {'fem': {}}.*sigma_px: expected 2.0, got 3.0",
    ):
        scored_rows(whole[0], network, sigma_px=3.0, methods=("fem",))


def test_settings_are_in_every_part(whole):
    import pyarrow.parquet as pq

    out, _ = whole
    settings = read_settings(out)
    assert settings["methods"]["add:alpha=0.25"] == {"alpha": 0.25} and settings["sigma_px"] == 2.0
    for path in [*out.glob("scores-*.parquet"), *out.glob("pictures-*.parquet")]:
        assert json.loads(pq.read_schema(path).metadata[b"mlfem_settings"]) == settings


def test_small_pictures(whole):
    pictures = list(read_pictures(whole[0]))
    assert [picture["id"] for picture, _ in pictures] == [f"image{i}" for i in range(12)]
    picture, rows = pictures[4]
    assert picture["photo"][:2] == b"\xff\xd8"
    assert max(picture["gaze"]) == 255 and len(picture["gaze"]) == 16
    assert rows[2]["method"] == "uniform" and list(rows[2]["map"]) == [255] * 16


def test_a_fold_is_scored_alone(whole, network, tmp_path):
    ids = [{row["id"] for row in scored_rows(tmp_path / str(i), network, fold=(i, 2))} for i in range(2)]
    assert not ids[0] & ids[1] and len(ids[0] | ids[1]) == 12


def test_a_matrix_has_a_column_for_each_method(whole):
    out, rows = whole
    matrix = score_matrix(read_scores(out), "pcc", ("center", "uniform"))
    expected = [[row["pcc"] for row in rows if row["method"] == name] for name in ("center", "uniform")]
    np.testing.assert_array_equal(matrix, np.transpose(expected))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("fme",)}, "method: expected one of"),
        ({"methods": ("fem:q=1",)}, "method 'fem': expected options among layers, k, sign, raw, got q"),
        ({"methods": ("fem:k",)}, "expected option=value"),
        ({"methods": ()}, "methods: expected at least one, got none"),
        ({"metrics": ("pc",)}, "metrics: expected some of pcc"),
        ({"methods": ("maps:",)}, "expected a folder of maps after the colon, got none"),
        ({"methods": ("grad_cam:raw=True",)}, "methods: expected maps of the frame, not raw ones"),
        ({"target": "cat"}, "target: expected a class"),
        ({"target": "3"}, "target: expected classes from 0 to 2"),
        ({"smooth": ("gauze",)}, "smooth: expected none, gaze, fit or a number of pixels, got 'gauze'"),
        ({"smooth": ("fit",)}, "fits: expected a file of fits for smooth fit, got none"),
        ({"smooth": ("12", "12.0")}, "smooth: expected none, gaze, fit or numbers of pixels, each once, got '12 12.0'"),
        ({"smooth": ("0",)}, "sigma_px: expected a positive number"),
        ({"sigma_px": 0.0}, "sigma_px: expected a positive number"),
        ({"fold": (2, 2)}, "fold: expected 0 to 1"),
        ({"process_index": 2, "process_count": 2}, "process_index: expected 0 to 1"),
        ({"methods": ("fem:k=nan",)}, "k: expected a number, got 'nan'"),
        ({"methods": ("add:alpha=9e999",)}, "alpha: expected a finite number, got inf"),
        ({"part_size": 0}, "part_size: expected at least 1, got 0"),
        ({"photo_size": 0}, "photo_size: expected at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: expected .*, got 0"),
        ({"workers": -1}, "workers: expected 0 or more, got -1"),
        ({"dtype": "int8"}, "dtype: expected"),
    ],
)
def test_bad_settings_are_named(options, message, tmp_path, network):
    with pytest.raises(ValueError, match=message):
        scored_rows(tmp_path / "out", network, **options)
    assert not (tmp_path / "out").exists()  # the corrected command may use the folder


def test_a_missing_data_set_is_one_line(tmp_path, capsys):
    assert main(["score", str(tmp_path), str(tmp_path / "out"), "--batch-size", "auto"]) == 2
    assert "expected a prepared data set, with a dataset_info.json" in capsys.readouterr().err


def test_random_weights_are_a_word_and_no_file():
    config = tyro.cli(Config, args=["data", "out", "--weights", "random"])
    assert config.weights == "random"  # as `load_backbone` takes it
    assert str(tyro.cli(Config, args=["data", "out", "--weights", "a/b.npz"]).weights) == "a/b.npz"
