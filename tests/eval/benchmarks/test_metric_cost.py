"""The cost of a metric: every kind of metric is called as `mlfem score` calls it."""

import numpy as np
import pytest

from eval.benchmarks.metric_cost import Config, measure
from tests.networks import brightness_network


@pytest.mark.parametrize("name", ["nss", "drop", "random_logit", "entropy"])
def test_a_metric_is_measured(name):
    config = Config(method="add", batch_size=2, fixations=3, repeats=1)
    found = measure(brightness_network(), name, config)
    assert found["metric"] == name and found["images_per_s"] > 0 and np.isfinite(found["forwards"])
