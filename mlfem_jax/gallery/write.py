"""Photographs in, a folder of pictures, maps and one page out: what `mlfem explain` and the demo do."""

import dataclasses
import functools
import itertools
import os
import re
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich import progress
from rich.console import Console
from rich.text import Text

from mlfem_jax import __version__, attribution
from mlfem_jax.attribution import Method, accepted_options, layer_stacks, net_reasons
from mlfem_jax.backbones import Forward, load_backbone, select_layers
from mlfem_jax.compilation import keep_compiled
from mlfem_jax.engine import BatchSize, map_batches
from mlfem_jax.files import foreign, printable, refuse_foreign, replacing, writing
from mlfem_jax.fusion import ALPHA, ARCHITECTURES, OPERATORS, fuse
from mlfem_jax.gallery.find import find_photos
from mlfem_jax.gallery.page import ExplainedPhoto, write_page
from mlfem_jax.gallery.why import write_why
from mlfem_jax.importance import fem, normalize
from mlfem_jax.photos import ResizeRule, place_map, read_photo, resize_photo
from mlfem_jax.plot import contact_sheet, overlay, write_png

PANEL = (240, 190)
"""Height and width in pixels that a panel of a contact sheet fits in."""
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
    """Explains photographs: shows where in each of them the network found what it says it sees.

    Writes for each photograph an overlay, a sheet of all layers and fusions, and the importance map as a
    NumPy file, and one index.html for all. A photograph that cannot be read is named on the standard error;
    the others are still done, and the exit status is 1. Nothing is written over that an earlier run did not make: where
    a name is taken, a photograph's files get another.

    Args:
        photos: files, folders (with their subfolders) and patterns.
        out: folder to write to.
        backbone: network, one of `mlfem backbones`.
        weights: the network's weights: .safetensors, .pth, .npz, or an orbax folder; by default a package's.
        method: one of `mlfem methods`.
        k: standard deviations above a channel's mean that make an activation strong.
        alpha: weight of the earlier layers in the fusions add and top, from 0 to 1.
        layers: all, or names and numbers with commas (0,5,-1), or a slice (8: is the ninth and on).
        batch_size: photographs that go through the network together; auto is as many as fit the device.
        dtype: number type of the forward pass.
        resize: how a photograph gets the network's input size; native keeps its own.
        frame: height and width whose number of pixels each photograph gets, in its own proportions (384 512); by
            default the network's input size, whatever the photograph's proportions.
        fusion: of the method net: a packaged one (net, unet, channels, linear), or a file of mlfem train fusion.
        why: also shows which layers and channels the map of net came from, a picture and a JSON file each.
        map_size: size of the written map: the photograph's own, or that of the network's input.
        picture_px: longest side in pixels of the photograph and overlay pictures.
        cache: folder for compiled programs; auto is the user's cache folder or MLFEM_CACHE, none is none.

    Returns:
        The exit status: 0, or 1 if any photograph could not be read.

    Raises:
        ValueError: a name or option that is not known, no photograph given, or another process writes to `out`.
        FileExistsError: there is an index.html that is not ours.
        MemoryError: a batch does not fit the device; it says which size would.
    """
    tell = functools.partial(Console(stderr=True).print, markup=False, highlight=False, soft_wrap=True)
    paths = find_photos(photos, on_left_out=lambda line: tell(f"mlfem: {line}"))
    if not paths:
        raise ValueError("no photographs given: name files, folders or patterns")
    keep_compiled(cache)
    network = load_backbone(backbone, weights)
    chosen = select_layers(network.layers, _parse_layers(layers))
    options = {"layers": chosen, "k": k, "alpha": alpha}
    net = _net_options(method, fusion, why)
    options = {name: options[name] for name in accepted_options(method) if name in options} | net
    if method == "net" and layers == "all":
        del options["layers"]  # its own
    bound = attribution.method(method, **options)
    look = functools.partial(
        map_batches,
        network,
        function=_Look(bound, chosen, k, alpha, tuple(net.items()) if why else None),
        batch_size=batch_size,
        dtype=jnp.dtype(dtype),
        resize=resize,
        frame=frame,
    )
    draw = functools.partial(
        _draw,
        out=out,
        labels=network.labels,
        method=method,
        rule=resize,
        map_size=map_size,
        picture_px=picture_px,
        settings=f"{backbone}, {method}, k {k:g}, alpha {alpha:g}",
    )
    settings = {"backbone": backbone, "method": method, "k": k, "alpha": alpha, "layers": layers}
    settings |= {"frame": "the network's" if frame is None else f"{frame[0]} x {frame[1]}"} | net
    settings |= {"resize": resize, "dtype": dtype, "mlfem_jax": __version__}
    with writing(out):
        refuse_foreign(out, [_PAGE])
        explained, failures = _explain_all(paths, _names(paths, out), lambda images: look(images=images), draw)
        write_page(out / _PAGE, explained, settings=settings, failures=failures)
    for photo in explained:
        print(printable(f"{photo.name}: " + ", ".join(f"{label} {100 * p:.1f} %" for label, p in photo.top)))
    print(printable(str(out / _PAGE)))
    return 1 if failures else 0


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


def _parse_layers(text: str) -> slice | list[int | str] | None:
    """The layers of a command line: "all", a slice ("3:8"), or names and numbers with commas."""
    if text == "all":
        return None
    if re.fullmatch(r"-?\d*:-?\d*", text):
        return slice(*(int(end) if end else None for end in text.split(":")))
    return [int(word) if re.fullmatch(r"-?\d+", word) else word for word in text.split(",") if word]


@dataclasses.dataclass(frozen=True)
class _Look:
    """All that is drawn of a batch, from one forward pass; equal settings share one compiled function."""

    chosen: Method
    layers: tuple[str, ...]
    k: float
    alpha: float
    reasons: tuple[tuple[str, str], ...] | None

    def __call__(self, forward: Forward) -> dict[str, Any]:
        to_probabilities = jax.nn.softmax if forward.backbone.output == "softmax" else jax.nn.sigmoid
        probabilities = to_probabilities(forward.logits.astype(jnp.float32))
        shown = 0 if forward.backbone.embeds else min(5, probabilities.shape[-1])
        stacks = layer_stacks(forward, layers=self.layers, k=self.k)
        maps = OrderedDict(
            (operator, jax.vmap(functools.partial(fuse, operator=operator, alpha=self.alpha))(stacks))
            for operator in OPERATORS
        )
        if self.chosen.name not in maps:
            maps[self.chosen.name] = self.chosen(forward)
            maps.move_to_end(self.chosen.name, last=False)
        # The layers' maps keep their own resolution: it is all there is, and little to bring to the host.

        def layer_map(name: str) -> jax.Array:
            sign = forward.backbone.sign(name)
            return jax.vmap(lambda activation: normalize(fem(activation, k=self.k, sign=sign)))(
                forward.activations[name]
            )

        return {
            "top": jax.lax.top_k(probabilities, shown),
            "maps": maps,
            "layers": OrderedDict((name, layer_map(name)) for name in self.layers),
            "why": None if self.reasons is None else net_reasons(forward, **dict(self.reasons)),
        }


def _draw(
    photo: np.ndarray,
    shown: str,
    stem: str,
    result: dict[str, Any],
    *,
    out: Path,
    labels: Sequence[str],
    method: str,
    rule: ResizeRule,
    map_size: str,
    picture_px: int,
    settings: str,
) -> ExplainedPhoto:
    """Writes one photograph's four files."""
    map = result["maps"][method]
    top = tuple(
        (labels[index] if labels else f"class {index}", float(probability))
        for probability, index in zip(*result["top"], strict=True)
    )
    if not all(np.isfinite(probability) for _, probability in top):
        top = (("no prediction: the network's output is not a number,", 0.0),)
    files = ExplainedPhoto(shown, *_files(stem)[:4], top, _files(stem)[4] if result["why"] else "")
    size = _fit(photo.shape[:2], (picture_px, picture_px))
    picture = resize_photo(photo, size)
    write_png(out / files.photo, picture)
    write_png(out / files.overlay, overlay(picture, place_map(map, size, rule=rule)))
    best = "".join(f"{label} {100 * probability:.1f} %   ·   " for label, probability in top[:1])
    title = f"{shown}\n{best}{settings}"
    write_png(out / files.sheet, _sheet(photo, result, rule, title))
    if result["why"]:
        panel = _fit(photo.shape[:2], PANEL)
        write_why(out / files.why, photo, result["why"], panel=panel, rule=rule, title=title)
    with replacing(out / files.map) as file:
        np.save(file, map if map_size == "input" else place_map(map, photo.shape[:2], rule=rule))
    return files


def _sheet(photo: np.ndarray, result: dict[str, Any], rule: ResizeRule, title: str) -> np.ndarray:
    size = _fit(photo.shape[:2], PANEL)
    place = functools.partial(place_map, shape=size, rule=rule)
    layers = {f"{name}\n{map.shape[0]} x {map.shape[1]}": place(map) for name, map in result["layers"].items()}
    maps = {name: place(map) for name, map in result["maps"].items()}
    placed = {"Importance maps": maps, "Layers, first to last": layers}
    return contact_sheet(resize_photo(photo, size), placed, title=title)


def _fit(shape: tuple[int, int], into: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) of the same proportions that fits; never larger than `shape`."""
    scale = min(1.0, *(limit / side for limit, side in zip(into, shape, strict=True)))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _names(paths: Sequence[Path], out: Path) -> list[tuple[str, str]]:
    """What each photograph is shown as, and the stem of its files: names that neither each other nor others' have.

    A file in `out` may be written over where an earlier run made it, and it is not one of the photographs.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    shared = os.path.commonpath([path.parent for path in absolute])
    stems = [_readable(path.stem) for path in absolute]
    there = os.listdir(out) if out.is_dir() else []
    taken = {_folded(name) for name in foreign(out, there)}
    taken |= {_folded(path.name) for path in absolute if path.parent.resolve() == out.resolve()}
    for index, stem in enumerate(stems):
        tries = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        stems[index] = next(stem for stem in tries if taken.isdisjoint(map(_folded, _files(stem))))
        taken.update(map(_folded, _files(stems[index])))
    shown = [os.fsencode(path.relative_to(shared)).decode(errors="replace") for path in absolute]
    return list(zip(shown, stems, strict=True))


def _files(stem: str) -> tuple[str, ...]:
    """Names of a photograph's picture, overlay, sheet and map, and of what says why."""
    return tuple(f"{stem}{end}" for end in (".png", ".overlay.png", ".sheet.png", ".npy", ".why.png", ".why.json"))


def _net_options(method: str, fusion: str | None, why: bool) -> dict[str, str]:
    """The options of the method net that its fusion means: the name of a packaged one, or a file."""
    if method != "net" and (why or fusion is not None):
        raise ValueError(f"{'why' if why else 'fusion'}: expected with the method 'net' alone, got {method!r}")
    if fusion is None:
        return {}
    return {"architecture": fusion} if fusion in ARCHITECTURES else {"weights": fusion}


def _readable(name: str) -> str:
    """A name need not be valid Unicode, may steer a terminal, and has to leave room for an ending."""
    return printable(os.fsencode(name).decode(errors="replace"))[:50]


def _folded(name: str) -> str:
    """Equal for names that some file system takes for the same: A and a, or two spellings of an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


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
