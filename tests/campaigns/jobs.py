"""The jobs that the campaigns of running disturb: each writes a folder in about a second, by a tiny network.

Each runs in a fork of a process that has imported everything and computed nothing, so a try costs a second, not ten.
"""

import dataclasses
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# All that the forks need, imported once.
import mlfem_jax.data.prepared.write as prepare_module
import mlfem_jax.engine.run
import mlfem_jax.gallery.write as gallery
import mlfem_jax.scores.run as scores
import mlfem_jax.training.classifier.task
import mlfem_jax.training.fusion.task  # noqa: F401
from mlfem_jax.cli import run_command
from mlfem_jax.files import writing
from tests.campaigns.trial import LIMIT_S, SLOW, awaited, cost
from tests.data.release_files import tiny_osie

warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX has no thread before it is first used


@dataclasses.dataclass(frozen=True)
class Job:
    """What is disturbed.

    Attributes:
        run: writes the folder, with what `given` made beside it; what is there already is gone on with.
        read: the content of a folder that `run` has finished: equal for equal results.
        whole: raises if a file in the folder, wherever the job was stopped, is not whole.
        given: makes what the job reads, and what belongs to others, in the folder above.
    """

    run: Callable[[Path], object]
    read: Callable[[Path], object]
    whole: Callable[[Path], None]
    given: Callable[[Path], object] = lambda root: None


def _score(folder: Path) -> None:
    from tests.networks import brightness_network
    from tests.scores.score_network import CONFIG, DATASET, tiny_source

    config = dataclasses.replace(CONFIG, out=folder, process_index=_process[0], process_count=_process[1])
    scores.score_records(config, tiny_source(), DATASET, brightness_network())


_process = (0, 1)


def score_as(index: int, count: int) -> Callable[[Path], None]:
    """The scoring, as one of several processes."""

    def run(folder: Path) -> None:
        global _process
        _process = (index, count)
        _score(folder)

    return run


def _rows(folder: Path) -> list[list[object]]:
    import pyarrow.parquet as pq

    rows = [row for path in sorted(folder.glob("scores-*.parquet")) for row in pq.read_table(path).to_pylist()]
    keys = [(row["position"], row["method"]) for row in rows]
    assert len(keys) == len(set(keys)), "a row is there twice"
    return [[_rounded(value) for value in row.values()] for row in sorted(rows, key=lambda row: str(row["position"]))]


def _rounded(value: object) -> object:
    return str(round(value, 4)) if isinstance(value, float) else value


def _whole_scores(folder: Path) -> None:
    import pyarrow.parquet as pq

    for path in folder.glob("*.parquet"):
        assert pq.read_table(path).num_rows > 0
    _rows(folder)


def _train(kind: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        from tests.training.run_tiny import main

        sys.stdout = open(os.devnull, "w")  # each step's loss
        with writing(folder):
            main(kind, folder)

    return run


def _metrics(folder: Path) -> object:
    from mlfem_jax.training.run import read_metrics

    return [(row["step"], row["losses"]) for row in read_metrics(folder)]


def _whole_training(folder: Path) -> None:
    steps = [step for step, _ in _metrics(folder)]
    assert steps == sorted(set(steps)), "a line is there twice"


def _prepare(folder: Path) -> None:
    # Each run has another sigma than the one before, so that it replaces the data set.
    known = _sigma(folder)
    prepare_module.prepare("osie", folder.parent / "release", folder, sigma_px=30.0 if known == 24.0 else 24.0)


def _sigma(folder: Path) -> float | None:
    import tensorflow_datasets as tfds

    final = folder / "osie" / "1.0.0"
    return tfds.builder_from_directory(final).info.metadata["sigma_px"] if final.exists() else None


def _dataset(folder: Path) -> object:
    import tensorflow_datasets as tfds

    final = folder / "osie" / "1.0.0"
    assert os.listdir(final.parent) == ["1.0.0"], "something was left beside it"
    records = list(tfds.builder_from_directory(final).as_data_source("full"))
    return [(record["id"], record["image"], record["fixations"].tolist()) for record in records]


def _whole_dataset(folder: Path) -> None:
    import tensorflow_datasets as tfds

    if (folder / "osie" / "1.0.0").exists():
        assert len(list(tfds.builder_from_directory(folder / "osie" / "1.0.0").as_data_source("full"))) == 2
    elif (folder / "was.there").exists():
        raise AssertionError("neither the old data set nor the new")
    if _sigma(folder) is not None:
        (folder / "was.there").touch()


def _photos(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "out/a.png", "out/mine.npy"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, np.arange(3))
        else:
            Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)


def _explain(folder: Path) -> None:
    from tests.networks import brightness_network

    network = dataclasses.replace(brightness_network(), labels=("red", "green", "blue"))
    gallery.load_backbone = lambda name, weights: network
    sys.stdout = open(os.devnull, "w")
    photos = [str(folder.parent / name) for name in ("a.png", "b.jpg")]
    gallery.explain((*photos, str(folder / "a.png")), out=folder, cache=str(cache(folder)))


def _pictures(folder: Path) -> object:
    kept = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.suffix != ".html")
    assert len(kept) == 2 + 3 * 4, [path.name for path in kept]
    assert (folder / "index.html").read_text().rstrip().endswith("</html>")
    return [(path.name, path.read_bytes()) for path in kept]


def _whole_pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    mine = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(3)][2]
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "a.png")), mine)
    for path in folder.iterdir():
        if path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".npy":
            np.load(path)


JOBS = {
    "score": Job(_score, _rows, _whole_scores),
    "fusion": Job(_train("fusion"), _metrics, _whole_training),
    "classifier": Job(_train("classifier"), _metrics, _whole_training),
    "prepare": Job(_prepare, _dataset, _whole_dataset, lambda root: tiny_osie(root / "release")),
    "explain": Job(_explain, _pictures, _whole_pictures, _photos),
}


def cache(folder: Path) -> Path:
    """Of compiled programs, shared by all tries."""
    return folder.parents[1] / "compiled"


def new_folder(job: Job, root: Path, name: str) -> Path:
    """The folder of a try, not there yet, with what the job is given."""
    (root / name).mkdir(parents=True)
    job.given(root / name)
    return root / name / "out"


def start(run: Callable[[Path], object], folder: Path, errors: Path, *, prepared: Callable[[], object] = int) -> int:
    """The number of a process that runs a job as the command line does; its standard error goes to a file."""
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        prepared()

        def command() -> object:
            import jax

            jax.config.update("jax_compilation_cache_dir", str(cache(folder)))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
            return run(folder)

        status = run_command("campaign", command)
    finally:
        os._exit(status)


def apart(function: Callable[[Path], object], folder: Path) -> Any:
    """`function(folder)` in a process of its own, since no thread may be there at the next fork."""
    with tempfile.TemporaryFile() as file:

        def answer() -> None:
            try:
                found = (True, function(folder))
            except Exception as error:
                found = (False, f"{type(error).__name__}: {error}")
            os.write(file.fileno(), pickle.dumps(found))

        child = os.fork()
        if not child:
            try:
                answer()
            finally:
                os._exit(0)
        wait(child)
        file.seek(0)
        content = file.read()
    done, found = pickle.loads(content) if content else (False, "the reader crashed")
    assert done, found
    return found


def wait(child: int) -> int:
    """The status of a process, negative for a signal; what it used is counted. One that does not end is killed."""
    ended: list[tuple] = []

    def answered(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not ended and time.monotonic() < until:
            found = os.wait4(child, os.WNOHANG)
            ended.extend([found] if found[0] else [])
            time.sleep(0 if ended else 0.01)
        return bool(ended)

    lost = awaited(child, answered)
    if lost:
        os.kill(child, signal.SIGKILL)
        ended.append(os.wait4(child, 0))
    _, status, used = ended[0]
    _costs.append((used.ru_utime + used.ru_stime, used.ru_maxrss * 1024))
    assert not lost, f"a process {lost}"
    return os.waitstatus_to_exitcode(status)


_costs: list[tuple[float, int]] = []  # the processor's seconds, and bytes, of each process since the last report


def undisturbed(job: Job, root: Path) -> tuple[object, float]:
    """What a run gives that nothing disturbs, and the seconds that a second such run takes."""
    for name in ("cold", "warm"):
        folder = new_folder(job, root, name)
        begun = time.perf_counter()
        status = wait(start(job.run, folder, root / "errors"))
        assert status == 0, (root / "errors").read_text()
        seconds = time.perf_counter() - begun
    return apart(job.read, folder), seconds


def clear(root: Path) -> None:
    """Removes a try's folder."""
    shutil.rmtree(root, ignore_errors=True)


def reported(name: str, tried: int, failures: list[str]) -> int:
    """Prints how many were tried, how many failed and how; the number that failed."""
    longest_s, most_bytes = (max(each) for each in zip(*_costs, strict=True))
    slow = sum(seconds > LIMIT_S for seconds, _ in _costs)
    over = f" ({slow} of {len(_costs)} processes {SLOW})" if slow else ""
    _costs.clear()
    print(f"{name}: tried {tried}, failed {len(failures)}, {cost(longest_s, most_bytes)}{over}", flush=True)
    for failure in failures[:5]:
        print(f"  {failure}")
    return len(failures)
