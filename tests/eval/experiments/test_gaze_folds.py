"""The table of a cross-validation: images of all folds, each counted once."""

from types import SimpleNamespace

import numpy as np

from eval.experiments import gaze_folds


def test_the_mean_is_over_the_images_of_all_folds(monkeypatch, tmp_path, capsys):
    folds = {0: np.array([[0.2, 0.0], [0.4, np.nan]]), 1: np.array([[0.9, 0.5]])}
    made = {number: SimpleNamespace(metrics=("pcc",), by_metric={"pcc": values}, first=[{}] * len(values))
            for number, values in folds.items()}  # fmt: skip
    monkeypatch.setattr(gaze_folds, "scored", lambda config, number: made[number])
    gaze_folds.main(gaze_folds.Config(tmp_path, tmp_path, folds=2, beside=("center",), metrics=("pcc",)))
    assert "3 images" in capsys.readouterr().out
    rows = (tmp_path / "table.md").read_text().splitlines()[2:]
    assert rows[0].startswith("| `channels` | 0.500 (0.2") and rows[1].startswith("| `center` | 0.250 (")


def test_one_fold_alone(monkeypatch, tmp_path, capsys):
    asked = []

    def scored(config, number):
        asked.append(number)
        found = {"pcc": np.array([[0.3]]), "nss": np.array([[1.2]])}
        return SimpleNamespace(metrics=tuple(found), by_metric=found, first=[{}])

    monkeypatch.setattr(gaze_folds, "scored", scored)
    gaze_folds.main(gaze_folds.Config(tmp_path, tmp_path, only=(3,), metrics=("gaze",)))
    out = capsys.readouterr().out
    assert asked == [3] and "1 images" in out and "pcc | nss" in out  # a group is all that is in it
