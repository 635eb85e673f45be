"""Volumes: the mean of 152 brains that nilearn packages, with a blob put in at a known place."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eval.experiments.any_data.kinds import Kind, agreement, all_methods, event_maps, package_folder
from eval.experiments.any_data.small_net import small_backbone, trained

_FACTOR = 8
SIDE = 6
_SIGMA = 1.3
_NOISE = 0.1
LEFT_OUT = ("score_cam", "ablation_cam", "guided_ig")
"""For they take as many forwards as there are channels, or steps."""
OPTIONS = {
    "occlusion": {"window_px": 6, "stride_px": 3},
    "rise": {"samples": 100, "cells": 5},
    "lime": {"samples": 100, "segments": 60},
    "smooth_grad": {"samples": 5},
    "var_grad": {"samples": 5},
    "integrated_gradients": {"steps": 10, "baseline": "zero"},
}


def volume_kind(*, examples: int, steps: int, seed: int = 0) -> Kind:
    """A network that tells a brain as it is from one with a bright or a dark blob.

    Args:
        examples: how many are explained, all with a blob.
        steps: of training.
        seed: of everything that is drawn.
    """
    brain = read_brain()
    backbone = small_backbone(
        (*brain.shape, 1),
        kernel=3,
        widths=(8, 16, 24),
        strides=(2, 1, 1),
        classes=3,
        seed=seed,
        power=4.0,
        preprocess=deviation_from(brain),
    )
    params = trained(
        backbone,
        lambda draw, count: with_blobs(draw, brain, count)[:2],
        steps=steps,
        batch_size=8,
        seed=seed,
        rate=1e-2,
    )
    network = dataclasses.replace(backbone, params=params)
    shown, classes, starts = with_blobs(np.random.default_rng(seed + 1), brain, examples, least=1)
    masks, events = event_maps(starts, (SIDE,) * 3, brain.shape)
    return Kind(
        name="volume: a blob in a brain",
        trained=network,
        untrained=backbone,
        examples=shown,
        targets=classes,
        masks=masks,
        events=events,
        methods=all_methods(network, OPTIONS, leave_out=LEFT_OUT),
        accuracy=agreement(network, shown, classes),
    )


def deviation_from(brain: Float[np.ndarray, "D H W"]) -> Callable[[Any], Any]:
    """How many standard deviations each voxel is above the mean brain, as is usual before a network of brains."""
    mean = jnp.asarray(brain)[None, ..., None]
    return lambda volumes: (volumes - mean) / _NOISE


def with_blobs(
    draw: np.random.Generator, brain: Float[np.ndarray, "D H W"], count: int, *, least: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brains with noise, and a blob of the class's sign, none in class 0; their classes, and its corners."""
    noise = _NOISE * draw.standard_normal((count, *brain.shape))
    classes = draw.integers(least, 3, size=count)
    inside = np.argwhere(brain > 0.5)
    centers = inside[draw.integers(len(inside), size=count)]
    starts = np.clip(centers - SIDE // 2, 0, np.array(brain.shape) - SIDE)
    axis = np.exp(-0.5 * ((np.arange(SIDE) - (SIDE - 1) / 2) / _SIGMA) ** 2)
    blob = axis[:, None, None] * axis[:, None] * axis
    volumes = brain[None] + noise
    for volume, kind, (z, y, x) in zip(volumes, classes, starts, strict=True):
        volume[z : z + SIDE, y : y + SIDE, x : x + SIDE] += (0, 1, -1)[kind] * blob
    return volumes[..., None].astype(np.float32), classes, starts


def read_brain() -> Float[np.ndarray, "D H W"]:
    """The T1 template in [0, 1], each voxel the mean of 8 mm a side."""
    import nibabel

    folder = package_folder("nilearn", "nilearn") / "datasets" / "data"
    image = nibabel.Nifti1Image.from_filename(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    brain = np.asarray(image.dataobj, np.float32)
    sides = [length // _FACTOR for length in brain.shape]
    cut = brain[tuple(slice(side * _FACTOR) for side in sides)]
    blocks = cut.reshape(*(part for side in sides for part in (side, _FACTOR))).mean(axis=(1, 3, 5))
    return blocks / blocks.max()
