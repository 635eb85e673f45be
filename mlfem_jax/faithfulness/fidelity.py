"""Whether a map says how much the confidence changes when random parts of the image do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32

from mlfem_jax.backbones import Backbone, forward_pass
from mlfem_jax.faithfulness.baseline import BaselineName, baseline_image
from mlfem_jax.faithfulness.common import Image, Map, Output, Target, confidences, defined, or_predicted, ready_pair
from mlfem_jax.metrics import pcc
from mlfem_jax.parallel import images_at_once, over_chunks

_STATIC = ("draws", "cells", "share", "baseline", "blur_sigma_px", "output", "batch_size")


@functools.partial(jax.jit, static_argnames=_STATIC)
def sensitivity_n(
    backbone: Backbone,
    key: Array,
    image: Image,
    importance: Map,
    *,
    target: Target = None,
    draws: int = 128,
    cells: int = 14,
    share: float = 0.2,
    baseline: BaselineName = "mean",
    blur_sigma_px: float = 10.0,
    output: Output = "softmax",
    batch_size: int = 64,
) -> Float32[Array, ""]:
    """The correlation of what random subsets of an image matter, by the map, with what the network loses without them.

    A subset is a share of the cells of a grid; the map's sum over it against the fall of the confidence when it turns
    into the baseline.

    Args:
        backbone: the network.
        key: of the subsets.
        image: (H, W, 3) at the size of its input, uint8 or float in [0, 1].
        importance: (H, W) of any scale.
        target: see `insertion_curve`.
        draws: number of subsets, one forward pass each.
        cells: of the grid, along each axis, at most the image's; as many as pixels is the original test, whose subsets
            hardly differ for the network.
        share: of the cells that are in a subset.
        baseline: see `insertion_curve`.
        blur_sigma_px: see `insertion_curve`.
        output: see `insertion_curve`.
        batch_size: see `insertion_curve`.

    Returns:
        A number from -1 to 1; NaN for a map that is constant or not finite, and where the confidence never moves.

    Raises:
        ValueError: shapes that differ; fewer than two draws, a share outside (0, 1), or a grid finer than the image.

    Source:
        Ancona et al. 2018, arXiv:1711.06104, section 4 (sensitivity-n, for one n); on a grid, as mu-fidelity: Bhatt,
        Weller and Moura 2020, arXiv:2005.00631, definition 2.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(4, 4),
        ...                          preprocess=lambda x: x)
        >>> image = jnp.linspace(0, 1, 48).reshape(4, 4, 3)
        >>> options = {"cells": 4, "baseline": "black", "output": "logit", "target": 0}
        >>> print(sensitivity_n(backbone, jax.random.key(0), image, image[..., 0], **options).round(3))
        1.0
    """
    image = ready_pair(backbone, image, importance)
    substitute = baseline_image(image, baseline, blur_sigma_px=blur_sigma_px)
    target = or_predicted(target, backbone, image)
    _check_grid(importance, draws, cells, share, fewest=2)

    def without(keys):
        return _without_cells(backbone, keys, (image, substitute), importance, target, cells, share, output)

    attributed, after = over_chunks(without, jax.random.split(key, draws), images_at_once(batch_size))
    return jnp.where(defined(importance), pcc(attributed[None], -after[None]), jnp.nan)


@functools.partial(jax.jit, static_argnames=(*_STATIC, "normalize"))
def infidelity(
    backbone: Backbone,
    key: Array,
    image: Image,
    importance: Map,
    *,
    target: Target = None,
    draws: int = 128,
    cells: int = 14,
    share: float = 0.2,
    baseline: BaselineName = "black",
    blur_sigma_px: float = 10.0,
    normalize: bool = True,
    output: Output = "softmax",
    batch_size: int = 64,
) -> Float32[Array, ""]:
    """The mean square of what the map says of a perturbation minus what the network does: lower is better.

    A perturbation I takes the image x to the baseline in random cells of a grid; the map says that the confidence falls
    by the sum of map times I. Since maps in [0, 1] have no scale, they are multiplied by the number that makes the mean
    square least.

    Args:
        backbone: the network.
        key: of the perturbations.
        image: (H, W, 3) at the size of its input, uint8 or float in [0, 1].
        importance: (H, W); the same for each color.
        target: see `insertion_curve`.
        draws: number of perturbations, one forward pass each.
        cells: of the grid, along each axis.
        share: of the cells that are perturbed.
        baseline: see `insertion_curve`.
        blur_sigma_px: see `insertion_curve`.
        normalize: scale the map; without it, its own scale counts.
        output: see `insertion_curve`.
        batch_size: see `insertion_curve`.

    Returns:
        A number from 0; NaN for a map that is constant or not finite.

    Raises:
        ValueError: shapes that differ; no draws, a share outside (0, 1), or a grid finer than the image.

    Source:
        Yeh et al. 2019, arXiv:1901.09392, definition 2.1; the scale as in captum's `infidelity(normalize=True)`.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(4, 4),
        ...                          preprocess=lambda x: x)
        >>> image = jnp.linspace(0.1, 1, 48).reshape(4, 4, 3).at[..., 1:].set(0)
        >>> options = {"cells": 4, "output": "logit", "target": 0}
        >>> exact = jnp.ones((4, 4)).at[0, 0].set(1.00001)  # a constant map has no score
        >>> print(infidelity(backbone, jax.random.key(0), image, exact, **options) < 1e-6)
        True
    """
    image = ready_pair(backbone, image, importance)
    substitute = baseline_image(image, baseline, blur_sigma_px=blur_sigma_px)
    target = or_predicted(target, backbone, image)
    _check_grid(importance, draws, cells, share, fewest=1)
    weights = (jnp.asarray(importance, jnp.float32)[..., None] * (image - substitute)).sum(axis=-1)

    def without(keys):
        return _without_cells(backbone, keys, (image, substitute), weights, target, cells, share, output)

    before = confidences(forward_pass(backbone, image[None]).logits, target, output=output)
    said, after = over_chunks(without, jax.random.split(key, draws), images_at_once(batch_size))
    return jnp.where(defined(importance), mean_square_gap(said, before - after, normalize=normalize), jnp.nan)


def mean_square_gap(
    said: Float32[Array, " draws"], done: Float32[Array, " draws"], *, normalize: bool
) -> Float32[Array, ""]:
    """The mean square of said minus done, said scaled to make it least if `normalize`.

    Example:
        >>> print(mean_square_gap(jnp.array([1.0, 2.0]), jnp.array([2.0, 4.0]), normalize=True))
        0.0
    """
    square = (said * said).mean()
    scale = jnp.where(square > 0, (said * done).mean() / jnp.where(square > 0, square, 1.0), 1.0) if normalize else 1.0
    return jnp.square(scale * said - done).mean()


def _check_grid(importance: Map, draws: int, cells: int, share: float, *, fewest: int) -> None:
    finest = min(importance.shape)
    if draws < fewest or not 0 < share < 1 or not 1 <= cells <= finest:
        raise ValueError(
            f"draws, share and cells: expected at least {fewest}, between 0 and 1, and at most {finest}, got "
            f"{draws}, {share} and {cells}"
        )


def _without_cells(
    backbone: Backbone,
    keys: Array,
    images: tuple[Float32[Array, "*S C"], Float32[Array, "*S C"]],
    weights: Map,
    target: Target,
    cells: int,
    share: float,
    output: Output,
) -> tuple[Float32[Array, " draws"], Float32[Array, " draws"]]:
    """For each key, with a share of the cells of a grid: the sum of weights there, and the confidence without them."""
    image, substitute = images
    count = cells ** (image.ndim - 1)
    taken = max(1, round(share * count))
    chosen = jax.vmap(lambda key: jax.random.permutation(key, count) < taken)(keys)
    gone = jax.vmap(lambda chosen: _cells(chosen, cells, image))(chosen)
    hidden = jnp.where(gone[..., None], substitute[None], image[None])
    after = confidences(forward_pass(backbone, hidden).logits, target, output=output)
    return jnp.where(gone, jnp.asarray(weights, jnp.float32)[None], 0.0).sum(axis=tuple(range(1, gone.ndim))), after


def _cells(chosen: Bool[Array, " cells"], cells: int, image: Float32[Array, "*S C"]) -> Bool[Array, "*S"]:
    """The pixels of the chosen cells of a grid over the image."""
    axes = image.ndim - 1
    places = (np.arange(length) * cells // length for length in image.shape[:-1])
    return chosen.reshape((cells,) * axes)[np.ix_(*places)]
