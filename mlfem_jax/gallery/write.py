"""Photographs in, a folder of pictures, maps and one page out: what `mlfem explain` and the demo do."""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np
import tyro
from rich import progress
from rich.console import Console
from rich.text import Text

from mlfem_jax import __version__
from mlfem_jax.backbones import RECORDED, SMALL, load_backbone
from mlfem_jax.compilation import keep_compiled
from mlfem_jax.data import RECORDING_SUFFIXES
from mlfem_jax.engine import BatchSize, map_batches
from mlfem_jax.files import printable, refuse_foreign, writing
from mlfem_jax.fusion import ALPHA
from mlfem_jax.gallery.draw import draw_photo
from mlfem_jax.gallery.find import find_photos
from mlfem_jax.gallery.look import look_of, net_options, target_of
from mlfem_jax.gallery.names import made_before, photo_names
from mlfem_jax.gallery.page import ExplainedPhoto, write_page
from mlfem_jax.gallery.recordings import explain_recordings
from mlfem_jax.photos import PHOTO_SUFFIXES, ResizeRule, read_photo

_PAGE = "index.html"


def explain(
    photos: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO...", help_behavior_hint="")],
    /,
    *,
    out: Path = Path("explained"),
    backbone: str = "efficientnet_lite0",
    weights: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None,
    method: str = "add",
    k: float = 2.0,
    alpha: float = ALPHA,
    layers: str = "all",
    target: str | None = None,
    batch_size: BatchSize = 16,
    dtype: Literal["float32", "bfloat16"] = "float32",
    resize: ResizeRule = "stretch",
    frame: tuple[int, int] | None = None,
    fusion: Annotated[str | None, tyro.conf.arg(metavar="NAME|FILE")] = None,
    why: bool = False,
    map_size: Literal["photo", "input"] = "photo",
    picture_px: int = 1600,
    cache: str = "auto",
) -> int:
    """Explains photographs, sound, film or volumes: shows where in each the network found what it says is there.

    Writes for each photograph an overlay, a sheet of all layers and fusions, and the importance map as a
    NumPy file, and one index.html for all. A photograph that cannot be read, and what is left out of a folder (what an
    earlier run wrote there, too), is named on the standard error; the others are still done. The exit status is then 1,
    if only other files than photographs were left out 0. Nothing is written over that an earlier run did not make:
    where a name is taken, a photograph's files get another. With a network of sound or film (crepe_tiny, transnetv2)
    the arguments are recordings: sound and film of any kind, NIfTI volumes, NumPy arrays.

    Args:
        photos: files, folders (with their subfolders) and patterns.
        out: folder to write to.
        backbone: network, one of `mlfem backbones`.
        weights: the network's weights: .safetensors, .pth, .npz, or an orbax folder; by default a package's.
        method: one of `mlfem methods`.
        k: standard deviations above a channel's mean that make an activation strong.
        alpha: weight of the earlier layers in the fusions add and top, from 0 to 1.
        layers: all, or names and numbers with commas (0,5,-1), or a slice (8: is the ninth and on).
        target: what is explained: a class (281), several (281,282), or why one rather than another (281-282); by
            default the class that the network predicts.
        batch_size: photographs that go through the network together; auto is as many as fit the device.
        dtype: number type of the forward pass.
        resize: how a photograph gets the network's input size; native keeps its own.
        frame: height and width whose number of pixels each photograph gets, in its own proportions (384 512); by
            default the network's input size, whatever the photograph's proportions.
        fusion: of the method net: a packaged one (net, unet), or a file of mlfem train fusion.
        why: also shows which layers and channels the map of net came from, where its fusion weighs channels.
        map_size: size of the written map: the photograph's own, or that of the network's input.
        picture_px: longest side in pixels of the photograph and overlay pictures.
        cache: folder for compiled programs; auto is the user's cache folder or MLFEM_CACHE, none is none.

    Returns:
        The exit status: 0, or 1 if any photograph or subfolder could not be read.

    Raises:
        ValueError: a name or option that is not known, no photograph given, or another process writes to `out`.
        FileExistsError: there is an index.html that is not ours.
        MemoryError: a batch does not fit the device; it says which size would.
    """
    if picture_px < 1:
        raise ValueError(f"picture_px: expected at least 1, got {picture_px}")
    tell = functools.partial(Console(stderr=True).print, markup=False, highlight=False, soft_wrap=True)
    suffixes = RECORDING_SUFFIXES if backbone in (*RECORDED, SMALL) else PHOTO_SUFFIXES
    paths, lost = _find(photos, out, suffixes, tell)
    keep_compiled(cache)
    network = load_backbone(backbone, weights)
    net = net_options(method, fusion, why)
    look = functools.partial(
        map_batches,
        network,
        function=look_of(network, method, layers=layers, k=k, alpha=alpha, net=net, why=why),
        batch_size=batch_size,
        dtype=jnp.dtype(dtype),
        resize=resize,
        frame=frame,
        target=target_of(method, target),
    )
    line = f"{backbone}, {method}, k {k:g}, alpha {alpha:g}"
    draw = functools.partial(
        draw_photo,
        out=out,
        labels=network.labels,
        method=method,
        rule=resize,
        map_size=map_size,
        picture_px=picture_px,
        settings=line,
    )
    settings = {"backbone": backbone, "method": method, "k": k, "alpha": alpha, "layers": layers, "target": target}
    settings |= {"frame": frame and f"{frame[0]} x {frame[1]}", **net, "resize": resize, "dtype": dtype}
    with writing(out):
        refuse_foreign(out, [_PAGE])
        names = photo_names(paths, out)
        if network.photos:
            explained, failures = _explain_all(paths, names, lambda images: look(images=images), draw)
        else:
            explained, failures = explain_recordings(
                paths, names, lambda cut: look(images=cut), network, out=out, method=method, settings=line, tell=tell
            )
        failures = [*lost, *failures]
        shown = {name: value for name, value in settings.items() if value is not None} | {"mlfem_jax": __version__}
        write_page(out / _PAGE, explained, settings=shown, failures=failures)
    for photo in explained:
        print(printable(f"{photo.name}: " + ", ".join(f"{label} {100 * p:.1f} %" for label, p in photo.top)))
    print(printable(str(out / _PAGE)))
    return 1 if failures else 0


def _find(
    photos: Sequence[str], out: Path, suffixes: frozenset[str], tell: Callable[[str], object]
) -> tuple[list[Path], list[str]]:
    """The files to explain, and a line for each thing left out that may have been one."""
    lost: list[str] = []

    def on_left_out(line: str, may_be_photos: bool) -> None:
        tell(f"mlfem: {line}")
        lost.extend([line] if may_be_photos else [])

    paths = find_photos(photos, on_left_out=on_left_out, suffixes=suffixes)
    if made := made_before(paths, out):
        tell(f"mlfem: {printable(out)}: {len(made)} pictures of an earlier run (left out), first {printable(made[0])}")
        paths = [path for path in paths if path not in made]
    if not paths:
        raise ValueError("photos: expected files, folders or patterns, got none")
    return paths, lost


def _explain_all(
    paths: Sequence[Path],
    names: Sequence[tuple[str, str]],
    look: Callable[[Iterator[np.ndarray]], Iterator[Any]],
    draw: Callable[..., ExplainedPhoto],
) -> tuple[list[ExplainedPhoto], list[str]]:
    """Reads ahead of the network and draws behind it; also gives a line for each unreadable photograph."""
    failures: list[str] = []
    seen: deque[tuple] = deque()
    console = Console(stderr=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool, _progress(console) as bar:
        task = bar.add_task("explaining", total=len(paths))

        def images() -> Iterator[np.ndarray]:
            for photo, *name in _ahead(pool, _read, zip(paths, names, strict=True)):
                if isinstance(photo, ValueError):
                    failures.append(printable(str(photo)))
                    console.print(f"mlfem: {failures[-1]}", markup=False, highlight=False, soft_wrap=True)
                    bar.advance(task)
                else:
                    seen.append((photo, *name))
                    yield photo

        explained = []
        for photo in _ahead(pool, draw, ((*seen.popleft(), result) for result in look(images()))):
            explained.append(photo)
            bar.advance(task)
    return explained, failures


def _ahead(pool: Executor, function: Callable, items: Iterator[tuple], depth: int = 6) -> Iterator[Any]:
    """`function` of each item's values, in order, with `depth` of them under way at a time."""
    running: deque = deque()
    for item in items:
        running.append(pool.submit(function, *item))
        if len(running) == depth:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _read(path: Path, names: tuple[str, str]) -> tuple[np.ndarray | ValueError, str, str]:
    try:
        return read_photo(path), *names
    except ValueError as error:  # given to the caller, who reports it and goes on
        return error, *names


class _Rate(progress.ProgressColumn):
    def render(self, task: progress.Task) -> Text:
        return Text(f"{task.speed:.1f} photos/s" if task.speed else "")


def _progress(console: Console) -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        _Rate(),
        progress.TimeRemainingColumn(),
        console=console,
        redirect_stdout=False,
        disable=not console.is_terminal,
    )
