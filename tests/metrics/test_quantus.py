"""Localization, complexity and faithfulness against Quantus and captum; see oracles/make_quantus_golden.py."""

from pathlib import Path

import jax
import numpy as np
import pytest

from mlfem_jax import metrics
from mlfem_jax.faithfulness.fidelity import mean_square_gap
from mlfem_jax.faithfulness.removal import fill_in

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "quantus.npz")


@pytest.mark.parametrize("name", ["pointing_game", "energy_inside", "relevance_rank", "top_k_intersection"])
def test_localization(name):
    options = {"k": 20} if name == "top_k_intersection" else {}
    pairs = zip(GOLDEN["maps"], GOLDEN["masks"], strict=True)
    got = [float(getattr(metrics, name)(importance, mask, **options)) for importance, mask in pairs]
    np.testing.assert_allclose(got, GOLDEN[f"score_{name}"], atol=1e-5)


@pytest.mark.parametrize("name", ["sparseness", "entropy"])
def test_complexity(name):
    got = [float(getattr(metrics, name)(importance)) for importance in GOLDEN["maps"]]
    np.testing.assert_allclose(got, GOLDEN[f"score_{name}"], atol=1e-5)


def test_effective_complexity():
    got = [
        float(metrics.effective_complexity(importance, threshold=0.5 / float(importance.max())))
        for importance in GOLDEN["maps"]
    ]
    np.testing.assert_allclose(got, GOLDEN["score_effective_complexity"], atol=1e-6)


def test_holes_are_filled_in_as_road_does():
    got = fill_in(jax.random.key(0), GOLDEN["image"], GOLDEN["gone"])
    np.testing.assert_allclose(got, GOLDEN["filled"], atol=1e-4)


@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_is_captums(normalize):
    said, done = np.float32(GOLDEN["said"]), np.float32(GOLDEN["done"])
    got = mean_square_gap(said, done, normalize=normalize)
    np.testing.assert_allclose(got, GOLDEN[f"infidelity_{normalize}"][0], rtol=1e-4)
