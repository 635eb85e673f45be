"""Our table of scores beside pysaliency's scores of the same maps and gaze, at the photographs' own size.

    python tests/oracles/compare_pysaliency.py ours data/osie WORK --images 60          # with the library
    python tests/oracles/compare_pysaliency.py theirs WORK                              # with pysaliency

The first step runs `mlfem score --compare-in photo` and keeps its table, the maps and the fixations in WORK; the second
scores the maps again, image by image, and fails where one score differs by more than 1e-3. Densities are made anew
there, from the fixations, by NumPy. pysaliency cuts coordinates to pixels, so it gets them rounded, as the library
rounds them. Two interpreters, because pysaliency 0.2.22 wants NumPy 1 (`numpy.trapz`).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

METRICS = ("pcc", "similarity", "kl_divergence", "nss", "auc", "auc_judd", "auc_shuffled", "information_gain")
TOLERANCE = 1e-3
EPSILON = 2.2204e-16


def ours(directory: Path, work: Path, images: int, methods: tuple[str, ...]) -> None:
    """The table of `mlfem score`, and what it was computed from."""
    import mlfem_jax as mlfem
    from mlfem_jax import scores
    from mlfem_jax.data import decode_photo, open_dataset, record_id

    work.mkdir(parents=True, exist_ok=True)
    split = f"full[:{images}]"
    scores.score(scores.Config(directory, work / "scores", methods=methods, metrics=METRICS, compare_in="photo",
                               split=split, humans=False, map_size=0))  # fmt: skip
    table = scores.load(work / "scores")
    source = open_dataset(directory, split)
    records = {record_id(record): record for record in (source[i] for i in range(len(source)))}
    ids = [row["id"] for row in table.first]
    backbone = mlfem.load_backbone("efficientnet_lite0")
    photos = [decode_photo(records[image]) for image in ids]
    for method in methods:
        maps = mlfem.explain(backbone, photos, method=method, output="photo")
        np.savez(work / f"{method}.npz", **{f"{n}": np.asarray(importance) for n, importance in enumerate(maps)})
    fixations = [np.asarray(records[image]["fixations"], np.float64) for image in ids]
    np.savez(
        work / "gaze.npz",
        fixations=np.concatenate(fixations),
        counts=[len(points) for points in fixations],
        sizes=[photo.shape[:2] for photo in photos],
    )
    by_metric = {metric: table.by_metric[metric].tolist() for metric in METRICS}
    found = {"methods": methods, "sigma_px": table.settings["sigma_px"], "scores": by_metric}
    (work / "ours.json").write_text(json.dumps(found))


def theirs(work: Path) -> int:
    """Prints the largest difference of each method and metric; 1 if one is above the tolerance."""
    found = json.loads((work / "ours.json").read_text())
    with np.load(work / "gaze.npz") as file:
        points = np.split(file["fixations"], np.cumsum(file["counts"])[:-1])
        sizes = [tuple(size) for size in file["sizes"].tolist()]
    if len(set(sizes)) > 1:
        raise ValueError(f"{work}: expected photographs of one size, whose fixations compare, got {set(sizes)}")
    worst = 0.0
    for place, method in enumerate(found["methods"]):
        with np.load(work / f"{method}.npz") as file:
            maps = np.stack([file[f"{n}"] for n in range(len(points))]).astype(np.float64)
        for metric, values in peers(maps, points, found["sigma_px"]).items():
            own = np.array(found["scores"][metric], float)[:, place]
            difference = float(np.abs(own - values).max())
            worst = max(worst, difference)
            print(f"{method} {metric}: {len(own)} images, mean {own.mean():.4f}, largest difference {difference:.1e}")
    print(f"largest difference {worst:.1e}, tolerance {TOLERANCE:g}")
    return int(not worst <= TOLERANCE)


def peers(maps: np.ndarray, points: list[np.ndarray], sigma_px: float) -> dict[str, np.ndarray]:
    """Every metric of each map by pysaliency."""
    import pysaliency
    from pysaliency import metrics

    shape, count = maps.shape[1:], len(maps)
    pixels = [np.floor(one + 0.5).astype(int).clip(0, np.array(shape) - 1) for one in points]
    numbers = np.repeat(np.arange(count), [len(one) for one in pixels])
    y, x = np.concatenate(pixels).T

    class Stored(pysaliency.SaliencyMapModel):
        def _saliency_map(self, stimulus):
            return maps[int(stimulus[0, 0, 0])]

    class Density(pysaliency.Model):
        def __init__(self, densities):
            super().__init__(caching=False)
            self.densities = densities

        def _log_density(self, stimulus):
            return np.log(self.densities[int(stimulus[0, 0, 0])] + EPSILON)

    stimuli = pysaliency.Stimuli([np.full((*shape, 3), number, np.uint8) for number in range(count)])
    fixations = pysaliency.Fixations.create_without_history(x=x, y=y, n=numbers)
    truth = [density(one, shape, sigma_px) for one in points]
    priors = [density(np.concatenate(pixels[:n] + pixels[n + 1 :]), shape, sigma_px) for n in range(count)]
    shares = maps / maps.sum(axis=(1, 2), keepdims=True)
    model = Stored(caching=False)
    per_fixation = {
        "nss": model.NSSs(stimuli, fixations),
        "auc": model.AUCs(stimuli, fixations),
        "auc_shuffled": model.sAUCs(stimuli, fixations),
        "information_gain": Density(shares).information_gains(stimuli, fixations, baseline_model=Density(priors)),
    }
    pairs = list(zip(maps, truth, strict=True))
    return {
        "pcc": np.array([metrics.CC(*pair) for pair in pairs]),
        "similarity": np.array([metrics.SIM(*pair) for pair in pairs]),
        "kl_divergence": np.array([metrics.MIT_KLDiv(*pair) for pair in pairs]),
        "auc_judd": np.array(
            model.AUC_per_image(stimuli, fixations, nonfixations="unfixated", thresholds="fixations")
        ),
        **{name: np.array([values[numbers == n].mean() for n in range(count)]) for name, values in
           per_fixation.items()},
    }  # fmt: skip


def density(points: np.ndarray, shape: tuple[int, int], sigma_px: float) -> np.ndarray:
    """A Gaussian on every fixation; what falls outside is cut, the rest sums to 1."""
    rows, columns = (np.exp(-0.5 * ((np.arange(length)[:, None] - points[None, :, axis]) / sigma_px) ** 2)
                     for axis, length in enumerate(shape))  # fmt: skip
    total = rows @ columns.T
    return total / total.sum()


def main() -> int:
    """Either step."""
    parser = argparse.ArgumentParser()
    steps = parser.add_subparsers(dest="step", required=True)
    first = steps.add_parser("ours")
    first.add_argument("directory", type=Path)
    first.add_argument("work", type=Path)
    first.add_argument("--images", type=int, default=60)
    first.add_argument("--methods", nargs="+", default=["grad_cam", "add"])
    steps.add_parser("theirs").add_argument("work", type=Path)
    asked = parser.parse_args()
    if asked.step == "theirs":
        return theirs(asked.work)
    ours(asked.directory, asked.work, asked.images, tuple(asked.methods))
    return 0


if __name__ == "__main__":
    sys.exit(main())
