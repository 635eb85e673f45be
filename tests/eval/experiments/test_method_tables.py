"""The tables of every method, raw and blurred, on scores that are known."""

import numpy as np
import pyarrow as pa

from eval.experiments.method_tables import is_slow, tables
from mlfem_jax.attribution import METHODS
from mlfem_jax.scores import Scores


def test_means_and_orders_raw_and_blurred():
    raw = np.linspace(0, 0.1, 12)[:, None] + np.array([[0.2, 0.4, 0.9]])
    found = Scores(
        settings={"images": 12},
        table=pa.table({}),
        rows=("add", "edge", "humans"),
        methods=("add", "edge"),
        metrics=("pcc", "pcc@gaze", "insertion"),
        by_metric={"pcc": raw, "pcc@gaze": raw[:, [1, 0, 2]], "insertion": raw},
        first=[],
    )
    lines = tables(found).splitlines()
    assert "| `add` | 0.250 / 0.450 |" in lines and "| humans | 0.950 / 0.950 |" in lines
    assert lines[0] == "12 images, raw / blurred:" and "- PCC: 1 reversed" in lines


def test_slow_methods_repeat_forwards_or_gradients():
    slow = {name for name in METHODS if is_slow(name)}
    assert {"lime", "rise", "score_cam", "ablation_cam", "smooth_grad", "guided_ig", "xrai"} <= slow
    assert not slow & {"fem", "add", "net", "grad_cam", "saliency", "full_grad", "deep_lift", "lrp", "edge", "chefer"}
