from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grain", reason="needs Grain")
pytest.importorskip("scipy", reason="needs SciPy")

from eval.experiments import ceiling

OSIE = Path(__file__).parents[3] / "../shared/data/osie"


def record(fixations, observers):
    return {
        "fixations": np.array(fixations, np.float32),
        "observers": np.array(observers, np.int32),
        "size": np.array([20, 30], np.int32),
    }


def test_agreement_of_halves():
    def blob(y, x):
        return np.exp(-((np.arange(20)[:, None] - y) ** 2 + (np.arange(30) - x) ** 2) / 18)

    source = [
        record([[3, 4], [3, 4]], [0, 1]),
        record([[5, 6], [12, 20], [5, 6]], [2, 5, 4]),
        record([[3, 4], [9, 9]], [0, 2]),
    ]
    expected = np.corrcoef(blob(5, 6).ravel(), blob(12, 20).ravel())[0, 1]
    np.testing.assert_allclose(ceiling.agreements(source, 3, 3.0), [1, expected, np.nan], rtol=1e-4)


@pytest.mark.skipif(not OSIE.is_dir(), reason="needs OSIE in ../shared/data")
def test_ceiling_of_osie(tmp_path, capsys, optimized):
    prepare = pytest.importorskip("mlfem_jax.data.prepared.write", reason="needs tensorflow-datasets").prepare
    prepare("osie", OSIE, tmp_path)
    capsys.readouterr()
    ceiling.main(ceiling.Config(tmp_path, sigma_px=24.0, out=tmp_path / "ceiling.csv", resamples=999))
    printed = capsys.readouterr().out
    values = np.loadtxt(tmp_path / "ceiling.csv", delimiter=",", skiprows=1, usecols=1)
    assert len(values) == 600
    assert values.mean() == pytest.approx(0.89, abs=0.005)
    assert f"mean PCC of even and odd observers {values.mean():.4f}, 95% interval 0.88" in printed
