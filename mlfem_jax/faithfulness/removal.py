"""The most and the least relevant pixels taken away, by the same substitute, and how far the two curves part."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32

from mlfem_jax.backbones import Backbone, forward_pass
from mlfem_jax.faithfulness.baseline import BaselineName
from mlfem_jax.faithfulness.common import (
    Arrays,
    Image,
    Map,
    Output,
    Target,
    confidences,
    defined,
    or_predicted,
    ready_pair,
)
from mlfem_jax.faithfulness.perturbation import deletion_auc, pixel_ranks
from mlfem_jax.parallel import images_at_once, over_chunks

_BESIDE, _ACROSS = 1 / 6, 1 / 12
"""Weights of a pixel's neighbors: those beside it count twice as much as those across two axes."""


def abpc(
    backbone: Backbone, image: Image, importance: Map, *, baseline: BaselineName = "mean", **options
) -> Float32[Array, ""]:
    """The area between the perturbation curves, least relevant first minus most relevant first: higher is better.

    Both curves take pixels away until the same baseline is left, so that what the baseline does to the network by
    itself cancels; insertion and deletion, each with its own, have no such guarantee.

    Args:
        backbone: see `insertion_curve`.
        image: see `insertion_curve`.
        importance: see `insertion_curve`.
        baseline: see `insertion_curve`; the same for both curves.
        **options: those of `insertion_curve`.

    Returns:
        A number from -1 to 1 for a probability, 0 for chance; NaN for a map that is constant or not finite.

    Raises:
        ValueError: as `insertion_curve`.

    Source:
        Samek et al. 2017, doi:10.1109/TNNLS.2016.2599820 (MoRF); Schulz et al. 2020, arXiv:2001.00396, section 4.4 (the
        area between MoRF and LeRF); Bluecher, Vielhaben and Strodthoff 2024, arXiv:2401.06654 (symmetric relevance
        gain, which this is).

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(1, 2),
        ...                          preprocess=lambda x: x)
        >>> image, map = jnp.array([[[0.25, 0, 0], [0.5, 0, 0]]]), jnp.array([[0.0, 1.0]])
        >>> print(abpc(backbone, image, map, steps=2, baseline="black", output="logit"))
        0.125
    """
    upside_down = -jnp.asarray(importance, jnp.float32)
    least_first = deletion_auc(backbone, image, upside_down, baseline=baseline, **options)
    return least_first - deletion_auc(backbone, image, importance, baseline=baseline, **options)


@functools.partial(jax.jit, static_argnames=("percents", "noise", "output", "seed", "batch_size"))
def road(
    backbone: Backbone,
    key: Array,
    image: Image,
    importance: Map,
    *,
    target: Target = None,
    percents: tuple[int, ...] = (20, 40, 60, 80),
    noise: float = 0.01,
    output: Output = "softmax",
    seed: int = 0,
    batch_size: int = 64,
) -> Float32[Array, ""]:
    """Confidence without the least relevant pixels minus that without the most relevant: higher is better.

    What is removed is filled in from its surroundings, with a little noise, so that the shape of the hole does not
    tell the network what it hid: each pixel that is gone is the weighted mean of its neighbors.

    Args:
        backbone: the network.
        key: of the noise.
        image: (H, W, 3) at the size of its input, uint8 or float in [0, 1].
        importance: (H, W); only the order of its values matters, ties as in `insertion_curve`.
        target: see `insertion_curve`.
        percents: of the pixels that are removed; the result is the mean over them.
        noise: standard deviation of what is added to the pixels that are filled in, in the image's units.
        output: see `insertion_curve`.
        seed: of the order of ties.
        batch_size: see `insertion_curve`.

    Returns:
        A number from -1 to 1 for a probability, 0 for chance; NaN for a map that is constant or not finite.

    Raises:
        ValueError: shapes that differ, percents outside (0, 100).

    Source:
        Rong et al. 2022, arXiv:2202.00449 (noisy linear imputation, equation 6). The difference of the two orders, at
        several percents, is the combined score of the package grad-cam, which halves it. Filled in are unit pixels,
        not preprocessed ones.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(4, 4),
        ...                          preprocess=lambda x: x)
        >>> image = jnp.linspace(0, 1, 48).reshape(4, 4, 3)
        >>> print(road(backbone, jax.random.key(0), image, image[..., 0], output="logit") > 0)
        True
    """
    image = ready_pair(backbone, image, importance)
    if not percents or not all(0 < percent < 100 for percent in percents):
        raise ValueError(f"percents: expected numbers between 0 and 100, got {percents}")
    target = or_predicted(target, backbone, image)
    counts = jnp.array([round(importance.size * percent / 100) for percent in percents])
    ranks = pixel_ranks(importance, seed)
    counts = jnp.expand_dims(counts, tuple(range(1, ranks.ndim + 1)))
    gone = jnp.concatenate([ranks[None] >= importance.size - counts, ranks[None] < counts])
    keys = jax.random.split(key, len(gone))

    def score(chunk):
        keys, gone = chunk
        filled = jax.vmap(lambda key, gone: fill_in(key, image, gone, noise=noise))(keys, gone)
        return confidences(forward_pass(backbone, filled).logits, target, output=output)

    least, most = jnp.split(over_chunks(score, (keys, gone), images_at_once(batch_size)), 2)
    return jnp.where(defined(importance), (least - most).mean(), jnp.nan)


def fill_in(
    key: Array, image: Float32[Arrays, "*S C"], gone: Bool[Arrays, "*S"], *, noise: float = 0.0
) -> Float32[Array, "*S C"]:
    """The image with the pixels that are gone filled in: each the weighted mean of its neighbors, plus noise.

    One linear system for all of them, solved by conjugate gradients.

    Args:
        key: of the noise.
        image: (H, W, 3), or any other data (*S, C).
        gone: (H, W), or (*S), True for the pixels to fill in; if all are, they become 0.
        noise: standard deviation.

    Source:
        Rong et al. 2022, arXiv:2202.00449, section 4.3. Along other axes than two the neighbors are, as there, those
        beside a sample and those across two axes.

    Example:
        >>> hole = jnp.array([[False, True, False]])
        >>> print(fill_in(jax.random.key(0), jnp.array([[[0.0] * 3, [9.0] * 3, [1.0] * 3]]), hole)[0, 1].round(3))
        [0.5 0.5 0.5]
    """
    image, gone = jnp.asarray(image), jnp.asarray(gone)
    there = (~gone)[..., None].astype(jnp.float32)
    degree = _neighbors(jnp.ones_like(there))

    def system(values):
        return jnp.where(gone[..., None], degree * values - _neighbors(values * (1 - there)), values)

    known = jnp.where(gone[..., None], _neighbors(image * there), 0.0)
    filled, _ = jax.scipy.sparse.linalg.cg(system, known, tol=1e-6, maxiter=500)
    noisy = filled + noise * jax.random.normal(key, image.shape, jnp.float32)
    return jnp.where(gone[..., None], noisy, image)


def _neighbors(values: Float32[Array, "*S c"]) -> Float32[Array, "*S c"]:
    """The weighted sum over each pixel's neighbors; those outside the image are not there."""
    axes = values.ndim - 1
    padded = jnp.pad(values, [(1, 1)] * axes + [(0, 0)])

    def at(step: tuple[int, ...]) -> Array:
        starts = (*(1 + move for move in step), 0)
        ends = (start + length for start, length in zip(starts, values.shape, strict=True))
        return jax.lax.slice(padded, starts, tuple(ends))

    total = jnp.zeros_like(values)
    for step in itertools.product((-1, 0, 1), repeat=axes):
        moved = sum(map(abs, step))
        if moved in (1, 2):
            total = total + (_BESIDE if moved == 1 else _ACROSS) * at(step)
    return total
