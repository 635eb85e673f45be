import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("grain", reason="needs Grain")
pytest.importorskip("pyarrow", reason="needs pyarrow")

from mlfem_jax import attribution, faithfulness
from mlfem_jax.cli import main
from mlfem_jax.data.batches import read_batches
from mlfem_jax.data.example import ExampleFormat
from mlfem_jax.engine import memory, stream
from mlfem_jax.engine.run import explain
from mlfem_jax.runs import read_settings
from mlfem_jax.scores.run import score_records
from mlfem_jax.scores.table import read_pictures, read_scores, score_matrix
from tests.networks import brightness_network
from tests.reference_metrics import (
    auc_shuffled as slow_auc_shuffled,
    information_gain as slow_information_gain,
    nss as slow_nss,
    pcc as slow_pcc,
)
from tests.scores.score_network import CONFIG, DATASET, tiny_source

SCRIPT = Path(__file__).with_name("score_network.py")


@pytest.fixture(scope="module")
def network():
    return brightness_network()


def scored_rows(out, network, **options):
    score_records(dataclasses.replace(CONFIG, out=out, **options), tiny_source(), DATASET, network)
    return read_scores(out).to_pylist()


def separately(out, *arguments, **environment):
    command = [sys.executable, str(SCRIPT), str(out), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


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
    metrics = ("drop", "increase", "stability", "randomization", "emd")
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
        assert own["emd"] == 0.0  # 8 x 8 pixels are one cell of 32
        assert np.isnan(humans["stability"]) and np.isnan(humans["randomization"])


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
    killed = separately(tmp_path, 9, 0, 1, 3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    parts = {path: path.stat().st_mtime_ns for path in tmp_path.glob("scores-*.parquet")}
    assert 0 < len(parts) < 6
    done = separately(tmp_path, -1, 0, 1, 3)
    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_mtime_ns == time for path, time in parts.items())
    same_rows(whole[1], read_scores(tmp_path).to_pylist())


def test_two_processes_with_eight_devices_write_their_own_parts(whole, tmp_path, network):
    eight = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    second = separately(tmp_path, -1, 1, 2, 8, **eight)
    assert second.returncode == 0 and "3 of 6 parts are missing, which other processes have to write" in second.stderr
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
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda i: separately(out, killed_at if i else -1, i, 2, 3, coordinator), range(2)))


def test_two_processes_that_jax_joined_write_their_own_parts(whole, tmp_path):
    both = joined(tmp_path, -1)
    assert [process.returncode for process in both] == [0, 0], both[0].stderr + both[1].stderr
    assert " 12 " in both[0].stdout and not both[1].stdout, "the first waits, and counts what is undefined"
    same_rows(whole[1], read_scores(tmp_path).to_pylist())


def test_a_killed_process_ends_the_others_and_a_new_start_goes_on(whole, tmp_path):
    first, second = joined(tmp_path, 6)
    assert second.returncode == -signal.SIGKILL
    assert first.returncode not in (0, None) and "another task died" in first.stderr
    parts = {path: path.stat().st_mtime_ns for path in tmp_path.glob("scores-*.parquet")}
    assert 0 < len(parts) < 6
    assert [process.returncode for process in joined(tmp_path, -1)] == [0, 0]
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
        ({"methods": ("fem:q=1",)}, "method 'fem': expected options among layers, k, sign, got q"),
        ({"methods": ("fem:k",)}, "expected option=value"),
        ({"methods": ()}, "methods: expected at least one, got none"),
        ({"metrics": ("pc",)}, "metrics: expected some of pcc"),
        ({"sigma_px": 0.0}, "sigma_px: expected a positive number"),
        ({"fold": (2, 2)}, "fold: expected 0 to 1"),
        ({"process_index": 2, "process_count": 2}, "process_index: expected 0 to 1"),
    ],
)
def test_bad_settings_are_named(options, message, tmp_path, network):
    with pytest.raises(ValueError, match=message):
        scored_rows(tmp_path, network, **options)


def test_a_missing_data_set_is_one_line(tmp_path, capsys):
    assert main(["score", str(tmp_path), str(tmp_path / "out"), "--batch-size", "auto"]) == 2
    assert "mlfem score: no prepared data set in" in capsys.readouterr().err
