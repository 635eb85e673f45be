"""Did the network look where people looked? Fixations to a density map, and three maps scored against it.

    python examples/gaze_and_metrics.py --out out/gaze

The gaze is synthetic: four observers who look at the eyes and the nose of a cat. Writes `gaze.png` (photograph, gaze,
and the maps side by side) and prints, for each map, how far it agrees; more is better, but for the KL divergence.
"""

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import tyro

import mlfem_jax as mlfem
from mlfem_jax import metrics
from mlfem_jax.cli import run_command
from mlfem_jax.plot import write_png

CHELSEA = Path(str(files("skimage") / "data" / "chelsea.png"))
EYES_AND_NOSE = np.array([[115, 170], [135, 317], [245, 263]])  # (y, x) in pixels
METHODS = ("add", "net", "center")


def gaze_and_metrics(*, sigma_px: float = 24.0, out: Path = Path("out/gaze")) -> None:
    """Scores what EfficientNet-Lite0 looked at against synthetic gaze.

    Args:
        sigma_px: of the Gaussian on each fixation: one degree of visual angle in pixels of the photograph.
        out: folder to write to.
    """
    photo = mlfem.read_photo(CHELSEA)
    observers = np.repeat(np.arange(4), len(EYES_AND_NOSE))
    aims = np.tile(EYES_AND_NOSE, (4, 1))
    fixations = np.random.default_rng(0).normal(aims, 12).astype(np.float32)
    weights = mlfem.observer_weights(observers)  # each observer counts the same, however many fixations each made
    gfdm = mlfem.gaze_density(fixations, photo.shape[:2], sigma_px=sigma_px, weights=weights)

    pictures = [photo, mlfem.overlay(photo, np.asarray(mlfem.normalize(gfdm)))]
    backbone = mlfem.load_backbone("efficientnet_lite0")
    print(f"{'':8}   PCC   SIM    KL   NSS   AUC")
    for method in METHODS:
        (importance,) = mlfem.explain(backbone, [photo], method=method, output="photo")
        against_density = [
            score(importance, gfdm) for score in (metrics.pcc, metrics.similarity, metrics.kl_divergence)
        ]
        against_fixations = [score(importance, fixations) for score in (metrics.nss, metrics.auc_judd)]
        print(f"{method:8}" + "".join(f"{float(score):6.2f}" for score in against_density + against_fixations))
        pictures.append(mlfem.overlay(photo, importance))
    write_png(out / "gaze.png", np.hstack(pictures))
    print(f"photograph, gaze, {', '.join(METHODS)}: open {out / 'gaze.png'}")


if __name__ == "__main__":
    sys.exit(run_command("gaze_and_metrics", lambda: tyro.cli(gaze_and_metrics)))
