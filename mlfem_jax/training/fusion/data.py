"""What a fusion is trained on, opened: one data set or several, each with its own sigma, and what is kept of each."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlfem_jax.backbones import Backbone, samples_per_s_of
from mlfem_jax.data import (
    ExampleFormat,
    Index,
    RecordingFormat,
    image_frames,
    looked_at,
    open_dataset,
    recording_format,
    scan,
)
from mlfem_jax.fusion import FusionNet, MapRecipe
from mlfem_jax.parallel import batch_sharding
from mlfem_jax.training.fusion.config import Config, fusion_shape
from mlfem_jax.training.fusion.reading import Example, cached_maps, map_example, recording_maps
from mlfem_jax.training.fusion.step import cached_inputs
from mlfem_jax.training.progress import training_progress
from mlfem_jax.training.task import training_parts

Frame = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Data:
    """What is learned, and from what.

    Attributes:
        name: and version of the data set, or of several.
        ids: of the images, data set after data set.
        net: the network to train.
        maps: which maps it reads.
        frames: (height, width) of the frame of each image.
        example: from a position to an example.
        inputs: from a batch to what `FusionNet.stack` takes of each example.
        parts: positions of "train" and "validation".
    """

    name: str
    ids: tuple[str, ...]
    net: FusionNet
    maps: MapRecipe
    frames: tuple[Frame, ...]
    example: Callable[[int], Example]
    inputs: Callable[[Mapping[str, Any]], Any]
    parts: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Set:
    """One data set: its folder, records, what `scan` says of them, the sigma of its GFDMs and the images' frames."""

    folder: Path
    source: Any
    index: Index
    sigma_px: float | tuple[float, ...]
    frames: tuple[Frame, ...]
    recordings: RecordingFormat | None = None


def open_data(config: Config, backbone: Backbone) -> Data:
    """Data sets, split, network, and the maps where they are cached."""
    batch_sharding(config.recipe.batch_size)  # what it refuses, it refuses before the maps are made
    net, maps = fusion_shape(config, backbone)
    first = _open(config, backbone, config.directory, config.split, config.sigma_px)
    sets = [first, *(_open(config, backbone, folder) for folder in config.also)]
    ids = tuple(image for one in sets for image in one.index.ids)
    groups = tuple(group for one in sets for group in one.index.groups)
    parts = training_parts(config, groups, np.concatenate([one.index.fixation_counts > 0 for one in sets]))
    longest = max(one.index.max_fixations for one in sets)  # so that images of several data sets share a batch
    examples = [_examples(config, backbone, one, maps, longest) for one in sets]
    places = [(which, place) for which, one in enumerate(sets) for place in range(len(one.source))]

    def example(position: int) -> Example:
        which, place = places[position]
        return examples[which](place)

    cached = config.maps == "cached"
    return Data(
        name=" + ".join(one.source.dataset_info.full_name for one in sets),
        ids=ids,
        net=net,
        maps=maps,
        frames=tuple(frame for one in sets for frame in one.frames),
        example=example,
        inputs=cached_inputs if cached else functools.partial(computed_inputs, backbone, maps),
        parts=parts,
    )


def _open(
    config: Config, backbone: Backbone, folder: Path, split: str | None = None, sigma_px: float | None = None
) -> _Set:
    source = open_dataset(folder, split)
    index = scan(source)
    left_out = len(source) - len(looked_at(index, np.arange(len(source))))
    if left_out:
        print(f"{left_out} images without fixations are left out", file=sys.stderr)
    if not backbone.photos:
        return _open_recordings(config, backbone, _Set(folder, source, index, sigma_px or 0.0, ()))
    frames = image_frames(index.sizes, config.frame, backbone.photo_size, step=backbone.frame_step)
    return _Set(folder, source, index, sigma_px or source.dataset_info.metadata["sigma_px"], frames)


def _open_recordings(config: Config, backbone: Backbone, one: _Set) -> _Set:
    """The same of recordings.

    Raises:
        ValueError: they are none that the network takes, or that this fusion can be trained on.
    """
    metadata = one.source.dataset_info.metadata
    named = {"source": one.folder, "network": backbone.name, "samples_per_s": samples_per_s_of(backbone.name)}
    recordings = recording_format(metadata, one.index, shape=backbone.input_shape, **named)
    axes = recordings.axes
    if axes != len(backbone.input_size):
        raise ValueError(
            f"{one.folder}: expected events with {len(backbone.input_size)} coordinates, for a map of as many axes, "
            f"got {axes}"
        )
    if config.architecture != "weights" or config.frame is not None:
        name, found = ("frame", config.frame) if config.frame else ("architecture", config.architecture)
        raise ValueError(f"{name}: expected architecture 'weights', and no frame, for recordings, got {found!r}")
    if config.shrink not in (None, 1):
        raise ValueError(f"shrink: expected 1 for recordings, whose maps are not made smaller, got {config.shrink}")
    own = one.sigma_px
    sigma = (own,) * axes if own and not isinstance(own, tuple) else tuple(metadata["sigma_px"])
    frames = (backbone.input_size,) * len(one.source)
    return dataclasses.replace(one, sigma_px=sigma, frames=frames, recordings=recordings)


def _examples(
    config: Config, backbone: Backbone, one: _Set, maps: MapRecipe, max_fixations: int
) -> Callable[[int], Example]:
    """From the place of an image in its data set to an example."""
    formats: dict[Frame, ExampleFormat | RecordingFormat] = {}
    for frame in dict.fromkeys(one.frames):
        if one.recordings is None:
            formats[frame] = ExampleFormat((frame[0], frame[1]), max_fixations=max_fixations)
        else:
            formats[frame] = dataclasses.replace(one.recordings, max_fixations=max_fixations)
    kept: dict[int, Callable[[], Any]] = {}
    if config.maps == "cached":
        kept = _kept_of_all(backbone, one, formats, maps, config.cache or one.folder / "maps")

    def example(place: int) -> Example:
        given = kept[place]() if kept else None
        form, photograph = formats[one.frames[place]], config.recipe.faithful > 0
        to_example = recording_maps if isinstance(form, RecordingFormat) else map_example
        return to_example(one.source[place], given, form, one.sigma_px, photograph=photograph)  # pyrefly: ignore[bad-argument-type]

    return example


def _kept_of_all(
    backbone: Backbone,
    one: _Set,
    formats: Mapping[Frame, ExampleFormat | RecordingFormat],
    maps: MapRecipe,
    folder: Path,
) -> dict[int, Callable[[], Any]]:
    """For each place what reads what is kept of it; there is a file for each frame."""
    kept: dict[int, Callable[[], Any]] = {}
    with training_progress() as bar:
        row = bar.add_task("importance maps", total=len(one.source), shown="")
        for frame, example_format in formats.items():
            positions = np.flatnonzero([other == frame for other in one.frames])
            options = {"positions": positions, "on_batch": functools.partial(bar.advance, row)}
            file = cached_maps(backbone, one.source, example_format, maps, folder, **options)
            kept |= {int(p): functools.partial(file.__getitem__, place) for place, p in enumerate(positions)}
        bar.update(row, completed=len(one.source))
    return kept


def computed_inputs(backbone: Backbone, maps: MapRecipe, batch: Mapping[str, Any]) -> Any:
    """What the recipe reads of the photographs of a batch."""
    return maps.read(backbone, batch["images"])
