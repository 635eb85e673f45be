"""The benchmark's arithmetic and its rows, on a tiny network: its times mean nothing here."""

import json

import numpy as np
import pytest

from eval.benchmarks import common, reckon
from eval.benchmarks.throughput import run as throughput
from eval.benchmarks.throughput.ours import Call, Config
from eval.benchmarks.throughput.reading import reading_rows
from tests.networks import brightness_network

CONFIG = Config(methods=("add",), batch_size=2, batches=2, large=(6, 10), large_batch_size=1, repeats=2)


def test_rows_of_both_sizes():
    rows = throughput.measure(brightness_network(), CONFIG)
    table = {(row["size"], row["what"]): row for row in rows}
    works = ("bare forward", "add", "stack of all layers' maps", reckon.SCORED)
    assert list(table) == [(size, work) for size in ((8, 8), (6, 10)) for work in works]
    assert all(row["ratio"] == row["images_per_s"] / table[row["size"], "bare forward"]["images_per_s"] for row in rows)
    assert all((row["compilations"] >= 1, row["compilations_later"]) == (True, 0) for row in rows)
    bytes_per_image = {work: table[(8, 8), work]["bytes_per_image"] for work in works}
    # 3 logits; one map; two layers; the predicted class, its probability, two scores, and two bytes of flags.
    assert list(bytes_per_image.values()) == [3 * 4, 8 * 8 * 4, 2 * 8 * 8 * 4, 4 + 4 + 2 * 4 + 2]


def test_the_median_and_the_first_call():
    clock = iter([0, 5, 10, 11, 20, 22, 30, 37])  # the first call takes 5, the others 1, 2 and 7

    def call():
        return np.zeros(6, np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.time, "perf_counter", lambda: next(clock))
        (row,) = throughput.timed_rows({"it": Call(call, images=8, returned=3)}, repeats=3)
    assert (row["images_per_s"], row["ratio"], row["first_s"], row["bytes_per_image"]) == (4.0, 1.0, 5, 2.0)
    assert (row["compilations"], row["compilations_later"]) == (0, 0)


def test_reading_from_jpeg_files():
    config = Config(batch_size=2, reading=3)
    (row,) = reading_rows(brightness_network(), config)
    alone, whole = row["reading alone, images/s"], row["reading and scoring, images/s"]
    assert alone > 0 and whole > 0
    assert row["reading's share of the time, %"] == pytest.approx(100 * whole / alone)


REPORT = {
    "config": {},
    "device": "a card",
    "devices": 2,
    "dtype": "bfloat16",
    "rows": [{"backbone": "resnet50", "size": [224, 224], "what": reckon.SCORED, "images_per_s": 2000.0}],
    "reading": [{"backbone": "resnet50", "workers": 0, "reading alone, images/s": 150.0}],
}
# 64 images on 4 devices in 8 ms: each 2,000 a second at most. What did not compile has no bound.
COMPILED = {
    "config": {"targets": ["v5e"], "batch_size": 64, "devices": 4, "dtype": "bfloat16"},
    "rows": [
        {"target": "v5e", "backbone": "resnet50", "size": [224, 224], "what": "scores", "compiled_bound_ms": 8.0},
        {"target": "v5e", "backbone": "resnet50", "size": [224, 224], "what": "lime", "error": "ValueError: no"},
    ],
}


def read(folder, report):
    (folder / "report.json").write_text(json.dumps(report))
    return reckon.read_report(folder / "report.json")


def test_hours_and_cost_by_hand(tmp_path):
    config = reckon.Config("", price_per_hour=2.0, images=7_200_000, accelerators=(1, 8))
    lines = list(reckon.reckon(read(tmp_path, REPORT), config))
    assert [line["images_per_hour"] for line in lines] == [3_600_000, 28_800_000]
    assert [line["hours"] for line in lines] == [2.0, 0.25]
    assert [line["cost"] for line in lines] == [4.0, 4.0]
    assert [line["reading_cores"] for line in lines] == [7, 54]


def test_compiled_bounds_by_hand(tmp_path):
    config = reckon.Config("", price_per_hour=2.0, images=7_200_000, accelerators=(2,), reading_per_core=450.0)
    (line,) = reckon.reckon(read(tmp_path, COMPILED), config)
    assert (line["device"], line["hours"], line["cost"], line["reading_cores"]) == ("v5e", 0.5, 2.0, 9)


def test_the_table_says_what_was_measured(tmp_path, capsys):
    (tmp_path / "report.json").write_text(json.dumps(REPORT | {"reading": []}))
    reckon.main(reckon.Config(tmp_path / "report.json", price_per_hour=2.5))
    printed = capsys.readouterr().out
    assert "512" in printed and "not measured" in printed and "Measured: the images/s of 2 x a card" in printed


def test_work_that_was_not_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match="what: expected one of 'add, PCC"):
        list(reckon.reckon(read(tmp_path, REPORT), reckon.Config("", price_per_hour=1.0, what="sub")))
