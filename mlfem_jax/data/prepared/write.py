"""`mlfem prepare`: a release on disk to a TFDS data set that is either whole or not there."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import tensorflow_datasets as tfds
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mlfem_jax.data.batches import open_builder
from mlfem_jax.data.prepared.builder import VERSION, GazeBuilder
from mlfem_jax.data.releases.recording_form import Cut, Form
from mlfem_jax.data.releases.recordings import RECORDINGS, recordings_as
from mlfem_jax.data.releases.records import Dataset
from mlfem_jax.data.releases.registry import find_dataset
from mlfem_jax.files import note_tree, printable, refuse_foreign, replace_folder, restore_folder, walk, writing
from mlfem_jax.gaze import check_sigma


def prepare(
    name: tyro.conf.Positional[str],
    source: Annotated[Path, tyro.conf.arg(name="from")],
    to: Path,
    sigma_px: float | tuple[float, ...] | None = None,
    frame: tuple[int, int] | None = None,
    length: int | None = None,
    samples_per_s: int | None = None,
) -> Path:
    """The folder of the built data set; prints what is in it and what was clipped or left out.

    It is built beside its final place and renamed into it, so an interrupted run leaves nothing that looks
    whole, and what it left is removed by the next one. A data set that was built from the same files with the
    same sigma is not built again; if either changed, it is built anew and then replaces the old one, unless somebody
    else's files are in its folder.

    Args:
        name: a data set of the registry: osie, crowd, cat2000, mexculture142, mit1003, toronto, folder, recordings,
            or salicon/2015, salicon/2017, salicon/json.
        source: the folder of the release, or the one that holds its `data` folder.
        to: root of the built data sets.
        sigma_px: standard deviation of the Gaussian on each fixation, in pixels; default: the data set's own. Of
            recordings in samples, frames and pixels of the files: one number, or one for each coordinate of an event.
        frame: (height, width) to store photographs at, stretched, as pixels: reading them is several times as fast.
            They can then be read at no larger size, and not be drawn. Default: as they were found. Also of the frames
            of films.
        length: of recordings: the samples, or frames, of the windows that each is cut into; a network's own length.
            Default: all have one length, and stay whole.
        samples_per_s: of recordings: the rate that sound is stored at. Default: its own.

    Returns:
        `to/name[/configuration]/version`, which `tfds.builder_from_directory` reads.

    Raises:
        FileNotFoundError: the release is not there; says what was looked for, with the expected tree.
        ValueError: unknown name, a sigma or frame that is none, or damage in the release; names the file and the
            record. Another process builds it.
        FileExistsError: files that were not built by this program are where the data set belongs.
    """
    dataset = find_dataset(name)
    for sigma in sigma_px if isinstance(sigma_px, tuple) else [sigma_px]:
        if sigma is not None:
            check_sigma(sigma)
    if frame is not None and min(frame) < 1:
        raise ValueError(f"frame: expected a height and a width above 0, got {frame}")
    source, final = Path(source), dataset_folder(name, to)
    root, form = dataset.root(source), None
    more: list[Any] = [setting for setting in (dataset.revision, frame) if setting]
    if name == RECORDINGS.name:
        cut = Cut(length, frame, samples_per_s)
        dataset, form = recordings_as(root, cut, sigma_px)
        more = [dataset.revision, dataclasses.asdict(cut)]
        sigma_px = None  # it is the data set's now, in samples of what is stored
    elif length is not None or samples_per_s is not None or isinstance(sigma_px, tuple):
        raise ValueError(
            f"length, samples_per_s, sigma_px: expected none, and one number, for data sets of photographs, got "
            f"{length}, {samples_per_s} and {sigma_px}"
        )
    sigma_px = dataset.sigma_px if sigma_px is None else sigma_px
    restore_folder(final)
    fingerprint = _fingerprint(root, final=final, settings=[name, VERSION, sigma_px, *more])
    metadata = _built(final)
    if metadata is not None and metadata.get("fingerprint") == fingerprint:
        note = f"{printable(final)}: already built from these files, nothing to do"
        Console().print(note, markup=False, highlight=False, soft_wrap=True)
    else:
        metadata = _metadata(fingerprint, frame, form)
        metadata = _build(dataset, source, final, sigma_px=sigma_px, frame=None if form else frame, metadata=metadata)
    print_summary(final, metadata)
    return final


def dataset_folder(name: str, to: Path) -> Path:
    """Where `prepare` puts data set `name` below `to`.

    Example:
        >>> dataset_folder("salicon/2017", Path("built")).as_posix()
        'built/salicon/2017/1.0.0'
    """
    return Path(to) / find_dataset(name).name / VERSION


def print_summary(folder: Path, metadata: dict[str, Any]) -> None:
    """Prints the counts of a built data set, and each kind of thing that was clipped or left out."""
    counts, console = metadata["counts"], Console()
    recording = metadata.get("recording")
    things, what = ("recordings", "events") if recording else ("images", "fixations")
    lines = [f"{metadata['name']} in {folder}"]
    for split, images in counts["images"].items():
        lines.append(f"  split {split}: {images} {things}, {counts['fixations'][split]} {what}")
    if recording:
        lines.append("  each {} of {}".format(" x ".join(map(str, recording["shape"])), recording["dtype"]))
    observers = f"{counts['observers']} observers in {counts['viewings']} viewings"
    lines.append(
        f"  {observers if counts['observers'] else 'observers unknown'}, "
        f"{counts['density_maps']} released density maps, {len(metadata['class_names'])} classes"
    )
    sigma = metadata["sigma_px"]
    sigmas = ", ".join(f"{one:g}" for one in sigma) + " samples" if isinstance(sigma, list) else f"{sigma} px"
    lines.append(f"  sigma {sigmas} ({metadata['sigma_source']})")
    if "frame" in metadata:
        lines.append("  photographs stretched to {} x {} pixels".format(*metadata["frame"]))
    for kind, found in metadata["problems"].items():
        more = ", ..." if found["count"] > len(found["first"]) else ""
        lines.append(f"  {kind}: {found['count']}, first in {', '.join(found['first'])}{more}")
    if not metadata["problems"]:
        lines.append("  nothing was clipped or left out")
    console.print("\n".join(map(printable, lines)), markup=False, highlight=False, soft_wrap=True)


def _metadata(fingerprint: str, frame: tuple[int, int] | None, form: Form | None) -> dict[str, Any]:
    """What is noted of a build, beside what the builder notes."""
    if form is not None:
        rate = {} if form.samples_per_s is None else {"samples_per_s": form.samples_per_s}
        return {"fingerprint": fingerprint, "recording": {"shape": list(form.shape), "dtype": form.dtype, **rate}}
    return {"fingerprint": fingerprint} | ({"frame": list(frame)} if frame else {})


def _build(
    dataset: Dataset,
    source: Path,
    final: Path,
    *,
    sigma_px: float | tuple[float, ...] | None,
    frame: tuple[int, int] | None,
    metadata: dict[str, Any],
) -> dict[str, Any]:
    """Builds beside `final` and renames into it; returns the metadata."""
    refuse_foreign(final)
    with _staging(final) as staging, _progress(dataset.name) as (on_listed, on_read):
        builder = GazeBuilder(
            dataset,
            data_dir=staging / "new",
            sigma_px=sigma_px,
            frame=frame,
            metadata=metadata,
            on_listed=on_listed,
            on_read=on_read,
        )
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download that there is not
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=source))
        note_tree(Path(builder.data_dir))
        refuse_foreign(final)  # again: it was long ago
        replace_folder(Path(builder.data_dir), final)
        return dict(builder.info.metadata)


@contextlib.contextmanager
def _staging(final: Path) -> Iterator[Path]:
    """An empty folder on the same disk as `final`, locked while it is in use and removed afterwards."""
    staging = _staging_folder(final)
    with writing(staging):
        for leftover in (path for path in staging.iterdir() if path.is_dir()):
            shutil.rmtree(leftover)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _staging_folder(final: Path) -> Path:
    return final.parent / f".incomplete-{final.name}"


@contextlib.contextmanager
def _progress(name: str):
    """(on_listed, on_read) of a progress bar on stderr, in place of the bars of TFDS."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tfds.disable_progress_bar()
    try:
        with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as bar:
            task = bar.add_task(f"{name}: listing", total=None)
            yield (
                lambda total: bar.update(task, total=total, description=f"{name}: reading images"),
                lambda: bar.advance(task),
            )
    finally:
        tfds.enable_progress_bar()


def _built(final: Path) -> dict[str, Any] | None:
    """The metadata of the data set at `final`; None where there is none, or one of its files is gone or damaged."""
    if not (final / "metadata.json").is_file() or not (final / "dataset_info.json").is_file():
        return None
    try:
        info = open_builder(final).info
    except ValueError:
        return None
    found = all(Path(path).is_file() for split in info.splits.values() for path in split.filepaths)
    return dict(info.metadata) if found else None


def _fingerprint(root: Path, *, final: Path, settings: list[Any]) -> str:
    """A hash of the settings, and of path, size and time of every file at or behind `root` that is not our own."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    root, own = root.resolve(), {final.resolve(), _staging_folder(final).resolve()}
    for path in walk(root, hidden=True, without=own).files:
        stat = path.stat()
        name = os.fsencode(path.relative_to(root))
        digest.update(name + f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
