"""What a training run leaves: its metrics and their curves."""

import json
from pathlib import Path
from typing import Any

from mlfem_jax.files import replacing

RUN_FILES = ("metrics.jsonl", "curves.png", "checkpoints")
"""What every training writes into its folder, beside `run.json`."""


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; none where there is no such file.

    Raises:
        ValueError: it is damaged, by name.
    """
    path = Path(folder) / "metrics.jsonl"
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), start=1):
        try:
            rows.append(dict(json.loads(line)))
            int(rows[-1]["step"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}, line {number}: expected a report of a training, got something else") from error
    return rows


def plot_curves(folder: str | Path) -> Path:
    """The picture `curves.png` of a run: the loss, and each score, over the steps."""
    import matplotlib.figure

    rows = read_metrics(folder)
    names = [name for name in rows[0] if name not in ("step", "loss", "losses", "seconds")]
    figure = matplotlib.figure.Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    every_loss = [loss for row in rows for loss in row["losses"]]
    left.plot(range(1, len(every_loss) + 1), every_loss, color="0.8", label="each step")
    left.plot([row["step"] for row in rows], [row["loss"] for row in rows], marker=".", label="mean since the last")
    left.set(xlabel="step", ylabel="training loss")
    for name in names:
        right.plot([row["step"] for row in rows], [row[name] for row in rows], marker=".", label=name)
    right.set(xlabel="step", ylabel="score")
    for axes in (left, right) if names else (left,):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    path = Path(folder) / "curves.png"
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return path
