"""The main job on photographs that scikit-image brings along: explained, and how faithful each method is.

    python examples/demo.py --out out/demo

Writes `index.html`, what EfficientNet-Lite0 looked at, and `report/report.html`, every cheap method against the
network. Nobody's gaze on these photographs is known: for gaze, prepare a data set and call `mlfem score`.
"""

import sys
from importlib.resources import files
from pathlib import Path

import tyro

from mlfem_jax.backbones import load_backbone
from mlfem_jax.cli import run_command
from mlfem_jax.compilation import keep_compiled
from mlfem_jax.data import photo_record
from mlfem_jax.gallery import explain
from mlfem_jax.report import Config as Report, write_report
from mlfem_jax.scores import Config as Scores, score_records

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
METHODS = ("fem", "max", "add", "top", "mean", "product", "net", "grad_cam", "grad_cam_pp", "layer_cam", "hires_cam",
           "xgrad_cam", "eigen_cam", "saliency", "center", "edge", "random")  # fmt: skip
METRICS = ("insertion", "deletion", "drop", "increase")


def demo(*, out: Path = Path("out/demo")) -> None:
    """Explains scikit-image's photographs, scores the methods on them, and writes the report.

    Args:
        out: folder to write to.
    """
    keep_compiled()
    paths = [Path(str(files("skimage") / "data" / name)) for name in PHOTOGRAPHS]
    explain(tuple(map(str, paths)), out=out)
    records, scores = [photo_record(path) for path in paths], out / "report" / "scores"
    config = Scores(
        Path(), scores, methods=METHODS, metrics=METRICS, humans=False, batch_size=len(records), map_size=112
    )
    dataset = {"name": "photographs", "sigma_px": 1.0, "class_names": []}
    score_records(config, records, dataset, load_backbone("efficientnet_lite0"))
    write_report(Report(scores, out / "report"))
    print(f"open {out / 'index.html'} and {out / 'report' / 'report.html'}")


if __name__ == "__main__":
    sys.exit(run_command("demo", lambda: tyro.cli(demo)))
