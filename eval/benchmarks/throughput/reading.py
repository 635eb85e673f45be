"""What `eval.benchmarks.throughput` times from disk: JPEG files to batches, and on to a table of scores."""

import contextlib
import functools
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.benchmarks.common import seconds_of
from eval.benchmarks.throughput.ours import SIGMA_PX, Config
from mlfem_jax.backbones import Backbone
from mlfem_jax.data import ExampleFormat, open_dataset, prepare, read_batches, scan
from mlfem_jax.scores import Config as ScoreConfig, score_records

SIZE = (480, 640)


def reading_rows(backbone: Backbone, config: Config) -> list[dict[str, Any]]:
    """Images/s of reading alone (decoded, resized, batched), and of reading and scoring with `add`, PCC and SIM.

    Both are run twice, in turns, and the second run counts: nothing is compiled in it, and the files are in the
    page cache. Scores go to Parquet files, as `mlfem score` writes them.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(name)
        _write_photographs(folder / "photographs", config.reading)
        prepared = prepare("folder", folder / "photographs", folder / "data", sigma_px=SIGMA_PX)
        source = open_dataset(prepared)
        for turn in range(2):
            runs = {
                "read": functools.partial(_read, source, backbone, config),
                "read and score": functools.partial(_score, source, backbone, config, folder / f"scores{turn}"),
            }
            seconds = {what: seconds_of(run) for what, run in runs.items()}
    rates = {what: config.reading / taken for what, taken in seconds.items()}
    return [
        {
            "backbone": backbone.name,
            "workers": config.workers,
            "reading alone, images/s": rates["read"],
            "reading and scoring, images/s": rates["read and score"],
            "reading's share of the time, %": 100 * rates["read and score"] / rates["read"],
        }
    ]


def _read(source: Any, backbone: Backbone, config: Config) -> None:
    example_format = ExampleFormat(backbone.photo_size, scan(source).max_fixations)
    for _ in read_batches(source, example_format, batch_size=config.batch_size, workers=config.workers):
        pass


def _score(source: Any, backbone: Backbone, config: Config, out: Path) -> None:
    plan = ScoreConfig(
        directory=Path("photographs"),
        out=out,
        backbone=backbone.name,
        methods=("add",),
        metrics=("pcc", "similarity"),
        humans=False,
        sigma_px=SIGMA_PX,
        batch_size=config.batch_size,
        dtype=config.dtype,
        map_size=0,
        workers=config.workers,
    )
    score_records(plan, source, dict(source.dataset_info.metadata), backbone)


def _write_photographs(folder: Path, count: int) -> None:
    """Smooth noise with a little grain, so that the files are about as large as photographs' (80 KB), and fixations."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["image,observer,x,y"]
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(SIZE[::-1], Image.Resampling.BICUBIC), np.int16)
        grain = rng.integers(-12, 13, (*SIZE, 1), dtype=np.int16)
        photograph = Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
        photograph.save(folder / "images" / f"{index:06}.jpg", quality=85)
        lines += [f"{index:06},o{n % 8},{rng.uniform(0, 639):.1f},{rng.uniform(0, 479):.1f}" for n in range(40)]
    (folder / "fixations.csv").write_text("\n".join(lines) + "\n")
