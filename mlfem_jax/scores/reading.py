"""The images of a run as batches: in which order they are read, and in which frames they get to the network."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Int

from mlfem_jax.backbones import Backbone
from mlfem_jax.data import Batch, ExampleFormat, Index, RecordingFormat, Source, Workers, image_frames, read_batches
from mlfem_jax.gaze import FitRule
from mlfem_jax.scores.config import Config
from mlfem_jax.scores.plan import Plan

Group: TypeAlias = tuple[tuple[int, ...], list[int]]
"""(height, width) of a frame, or the shape of recordings, and the images that are read in it."""


Format: TypeAlias = ExampleFormat | RecordingFormat


def format_of(
    config: Config, index: Index, positions: Int[np.ndarray, " images"], backbone: Backbone, classes: int
) -> ExampleFormat:
    """What the images of the run look like to the network, where they have the size of its input."""
    return ExampleFormat(
        backbone.photo_size,
        max(1, index.max_fixations),
        rule=config.rule,
        classes=classes,
        density=bool((index.fixation_counts[positions] == 0).any()),
    )


def format_of_totals(example_format: Format, plan: Plan, index: Index) -> Format:
    """The frame in which the fixations on all images are counted: a canvas, where photographs have one of their own.

    Every photograph fits into it, and is stretched to it.
    """
    if plan.compare_in == "input" or isinstance(example_format, RecordingFormat):
        return example_format
    height, width = index.sizes.max(axis=0)
    rule: FitRule = "stretch"
    return dataclasses.replace(example_format, shape=(int(height), int(width)), rule=rule)


def groups_by_frame(
    config: Config,
    index: Index,
    positions: Int[np.ndarray, " images"],
    shape: tuple[int, ...],
    parts: Sequence[range],
    step: int,
) -> list[Group]:
    """The images of the run in the order in which they are read: frame by frame in each part, if they have their own.

    Args:
        config: of the run.
        index: of the data set.
        positions: of the images of the run, in the data set.
        shape: of all of them, where they have none of their own: (height, width) of the network's input.
        parts: places of the images of each part, in the run.
        step: see `Backbone.frame_step`.
    """
    if config.frame is None:
        return [(shape, [place for part in parts for place in part])]
    frames = image_frames(index.sizes[positions], config.frame, (shape[0], shape[1]), step=step)
    groups: list[Group] = []
    for part in parts:
        of_frame: dict[tuple[int, int], list[int]] = {}
        for place in part:
            of_frame.setdefault(frames[place], []).append(place)
        groups += of_frame.items()
    return groups


def read_groups(
    source: Source,
    positions: Int[np.ndarray, " images"],
    groups: Sequence[Group],
    example_format: Format,
    size_of: Callable[[Format], int],
    *,
    workers: Workers,
) -> Iterator[Batch]:
    """Batches of one frame each, group after group.

    Args:
        source: records of a prepared data set.
        positions: of the images of the run, in the data set.
        groups: from `groups_by_frame`.
        example_format: of any of them, but for its shape.
        size_of: the number of images in a batch.
        workers: see `read_batches`.
    """
    for shape, places in groups:
        of_frame: Format = dataclasses.replace(example_format, shape=shape)  # pyrefly: ignore[bad-argument-type]
        yield from read_batches(
            source,
            of_frame,
            batch_size=size_of(of_frame),
            positions=positions[places],
            workers=workers,
            process_index=0,  # the parts are this process's share
            process_count=1,
        )
