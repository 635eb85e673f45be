"""How many people a map is worth: the PCC of n observers' GFDM with that of the others, for each n.

    python -m eval.experiments.observers data/osie --scores 0.609 0.834

The observers of each image are drawn in a random order. One half against the other is no bound for a map that is
compared with all N of them: the reference is less noisy there. If an observer is the truth and noise of the same
strength as everybody's, n of them correlate with m others by 1 / sqrt((1 + q / n) (1 + q / m)), where q is that noise
in terms of the truth's variance (Spearman 1910 and Brown 1910). q is solved for from the halves; what it gives for
other n stands beside what was measured, and from it follow the PCC of n observers with all N, that of a map that
knows the truth (n without end), and how many observers a map's PCC is worth.
"""

import dataclasses
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from eval.experiments.splits import padded_fixations
from mlfem_jax.cli import run_command
from mlfem_jax.data import Source, open_dataset, scan
from mlfem_jax.gaze import gaze_density
from mlfem_jax.metrics import pcc
from mlfem_jax.report import markdown_table


@dataclasses.dataclass(frozen=True)
class Config:
    """How many observers a map is worth.

    Attributes:
        directory: the folder of the prepared data set.
        scores: mean PCC of maps with the GFDM of all observers, above 0, to be told in numbers of observers.
        sigma_px: standard deviation of the Gaussian on each fixation, in pixels. Default: the data set's own.
        split: name of a split. Default: the only one.
        seed: of the order of the observers.
    """

    directory: tyro.conf.Positional[Path]
    scores: tuple[float, ...] = ()
    sigma_px: float | None = None
    split: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the scores.

        Raises:
            ValueError: one is no correlation that any number of observers could have.
        """
        if not all(0 < score <= 1 for score in self.scores):
            raise ValueError(f"scores: expected correlations above 0, to 1, got {self.scores}")


def main(config: Config) -> None:
    """Prints the table, and how many observers each score is worth."""
    source = open_dataset(config.directory, config.split)
    sigma_px = source.dataset_info.metadata["sigma_px"] if config.sigma_px is None else config.sigma_px
    counts = np.array([observer_count(source[i]) for i in range(len(source))])
    total = int(np.bincount(counts).argmax())
    usable = np.flatnonzero(counts == total)
    if total < 2:
        raise ValueError(f"{config.directory}: expected images with fixations of two known observers, got {total}")
    measured = agreements(source, usable, total, scan(source).max_fixations, sigma_px, seed=config.seed)
    means = np.nanmean(measured, axis=0)
    half = len(means)
    q = noise(float(means[-1]), half, total - half)
    rows = [[str(n), f"{mean:.3f}", f"{reckoned(q, n, total - n):.3f}", f"{reckoned(q, n, total):.3f}"]
            for n, mean in enumerate(means, start=1)]  # fmt: skip
    rows.append(["without end", "", "", f"{reckoned(q, np.inf, total):.3f}"])
    print(markdown_table(["observers", "with the others", "reckoned", f"reckoned, with all {total}"], rows))
    print(f"\n{len(usable)} images of {total} observers, {len(source) - len(usable)} of another number left out")
    for score in config.scores:
        print(f"PCC {score:.3f} with all {total}: worth {worth(score, q, total):.1f} observers")


def observer_count(record: dict) -> int:
    """The number of known observers of a record."""
    return len(set(record["observers"].tolist()) - {-1})


def agreements(
    source: Source, positions: np.ndarray, total: int, max_fixations: int, sigma_px: float, *, seed: int
) -> np.ndarray:
    """(images, total // 2) PCC of the GFDM of the first n observers, in a random order, with that of the others."""
    random, values = np.random.default_rng(seed), []
    for i in track(positions, "images", console=Console(stderr=True)):
        record = source[i]
        known = np.unique(record["observers"])[-total:]  # without -1, which stands before them
        order = {number: place for place, number in enumerate(random.permutation(known))}
        fixations, numbers = padded_fixations(record, max_fixations)
        places = np.array([order.get(number, -1) for number in numbers.tolist()], np.int32)
        shape = tuple(int(side) for side in record["size"])
        values.append(_agreements(fixations, places, shape, sigma_px, total // 2))
    return np.array(values)


@functools.partial(jax.jit, static_argnums=(2, 4))
def _agreements(fixations, places, shape, sigma_px, most):
    def of(count):
        first = gaze_density(fixations, shape, sigma_px=sigma_px, mask=(places >= 0) & (places < count))
        return pcc(first, gaze_density(fixations, shape, sigma_px=sigma_px, mask=places >= count))

    return jax.lax.map(of, jnp.arange(1, most + 1))


def noise(agreement: float, first: int, second: int) -> float:
    """The variance of one observer's noise, in terms of the truth's, at which `first` and `second` observers agree so.

    Example:
        >>> round(noise(0.5, 1, 1), 6)
        1.0
    """
    linear, square = 1 / first + 1 / second, 1 / (first * second)
    return (np.sqrt(linear**2 + 4 * square * (1 / agreement**2 - 1)) - linear) / (2 * square)


def reckoned(q: float, first: float, second: float) -> float:
    """The PCC of `first` observers with `second` others.

    Example:
        >>> reckoned(1.0, 1, 1)
        0.5
    """
    return float(((1 + q / first) * (1 + q / second)) ** -0.5)


def worth(score: float, q: float, total: int) -> float:
    """How many observers correlate so with all of them; without end where none could.

    Example:
        >>> round(worth(reckoned(1.5, 3, 15), 1.5, 15), 6)
        3.0
    """
    left = 1 / (score**2 * (1 + q / total)) - 1
    return q / left if left > 0 else float("inf")


if __name__ == "__main__":
    sys.exit(run_command("eval.experiments.observers", lambda: main(tyro.cli(Config))))
