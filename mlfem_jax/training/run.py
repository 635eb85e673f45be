"""What a training run leaves: its metrics and their curves."""

import json
from pathlib import Path
from typing import Any

from mlfem_jax.files import replacing


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`."""
    path = Path(folder) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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
