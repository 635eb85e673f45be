"""The evaluation on the photographs that scikit-image brings along: how faithful the cheap methods are to the network.

    python -m eval.demo --out out/demo/report

Nobody's gaze on these photographs is known, so only the metrics against the network are computed. For gaze, prepare a
data set and call `python -m eval.score`.
"""

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import tyro

from eval import report, score
from mlfem_jax.backbones.registry import load_backbone
from mlfem_jax.compilation import keep_compiled
from mlfem_jax.data.files import image_size
from mlfem_jax.demo import PHOTOGRAPHS

METHODS = ("fem", "max", "add", "top", "mean", "product", "net", "grad_cam", "grad_cam_pp", "layer_cam", "hires_cam",
           "xgrad_cam", "eigen_cam", "saliency", "centre", "edge", "random")  # fmt: skip


def demo(*, out: Path = Path("out/demo/report")) -> int:
    """Scores scikit-image's photographs, and writes the report.

    Args:
        out: folder of the report; the scores go into `scores` in it.

    Returns:
        The exit status.
    """
    keep_compiled()
    folder = files("skimage") / "data"
    records = [photo_record(Path(str(folder / name))) for name in PHOTOGRAPHS]
    config = score.Config(
        Path(), out / "scores", methods=METHODS, metrics=("model",), humans=False, batch_size=len(records), map_size=112
    )
    dataset = {"name": "photographs", "sigma_px": 1.0, "class_names": []}
    score.run(config, records, dataset, load_backbone("efficientnet_lite0"))
    return report.main(report.Config(out / "scores", out))


def photo_record(path: Path) -> dict[str, object]:
    """A photograph as the record of a prepared data set: nobody looked at it, and it has no labels."""
    encoded = path.read_bytes()
    height, width = image_size(encoded, path)
    return {
        "image": encoded,
        "id": path.stem,
        "size": np.array([height, width], np.int32),
        "fixations": np.zeros((0, 2), np.float32),
        "observers": np.zeros(0, np.int32),
        "durations": np.zeros(0, np.float32),
        "density": b"",
        "labels": np.zeros(0, np.int32),
        "clutter": np.int32(-1),
        "content_box": np.array([0, 0, height, width], np.int32),
    }


if __name__ == "__main__":
    sys.exit(tyro.cli(demo, prog="python -m eval.demo"))
