from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grain", reason="needs Grain")
pytest.importorskip("pyarrow", reason="needs pyarrow")
pytest.importorskip("skimage", reason="needs scikit-image")


from examples.demo import METHODS, photo_record
from mlfem_jax.attribution.registry import METHODS as ALL
from mlfem_jax.report import write
from mlfem_jax.scores import run
from mlfem_jax.scores.table import read_scores
from tests.networks import brightness_network

PHOTO = Path(str(files("skimage") / "data" / "coffee.png"))


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
    assert set(METHODS) <= set(ALL)
