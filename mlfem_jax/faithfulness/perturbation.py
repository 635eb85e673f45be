"""Pixels taken away or put back in the order of the map, and what that does to the network's confidence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32

from mlfem_jax.backbones import Backbone
from mlfem_jax.faithfulness.baseline import BaselineName, baseline_image
from mlfem_jax.faithfulness.common import (
    Image,
    Map,
    Output,
    Target,
    confidences_beside,
    defined,
    or_predicted,
    ready_pair,
)

_STATIC = ("steps", "baseline", "blur_sigma_px", "output", "seed", "batch_size")


@functools.partial(jax.jit, static_argnames=_STATIC)
def insertion_curve(
    backbone: Backbone,
    image: Image,
    importance: Map,
    *,
    target: Target = None,
    steps: int = 32,
    baseline: BaselineName = "blur",
    blur_sigma_px: float = 10.0,
    output: Output = "softmax",
    seed: int = 0,
    batch_size: int = 64,
) -> Float32[Array, " _points"]:
    """The network's confidence while the pixels of an image come back, the map's highest first.

    It begins at the baseline and ends at the image; a faithful map makes it rise early. Step i of n shows i / n of the
    pixels, to the nearest pixel.

    Args:
        backbone: the network.
        image: (H, W, 3) at the size of its input, uint8 or float in [0, 1].
        importance: (H, W); only the order of its values matters. Ties are broken by an order of all pixels that is
            drawn at random from `seed`: row by row, the zeros of a FEM map would come in as a curtain from above.
        target: the class; (K,) classes, whose confidences are summed; a `backbones.LogitFunction`, whose value stands
            in for the confidence; None is the class that the network prefers for the image. One that does not exist
            gives NaN.
        steps: number of steps; one forward pass each, and one more.
        baseline: what stands in for the pixels that are away: "blur", the image blurred; "mean", its mean color;
            "black". No baseline is neutral; say which was used.
        blur_sigma_px: standard deviation of the Gaussian blur, in pixels.
        output: "softmax", "sigmoid" for a network with many labels, or "logit".
        seed: of the order of ties.
        batch_size: most images in a forward pass; under `jax.vmap` times the number of images.

    Returns:
        (steps + 1,) float32; NaN for a map that is constant or not finite.

    Raises:
        ValueError: shapes that differ, more steps than pixels, an unknown option.

    Source:
        Petsiuk, Das and Saenko 2018, "RISE", arXiv:1806.07421, where the blur is an 11 x 11 window of sigma 5, the
        steps are rows of 224 pixels, and ties fall as the sort leaves them.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(1, 2),
        ...                          preprocess=lambda x: x)
        >>> image, map = jnp.array([[[0.25, 0, 0], [0.5, 0, 0]]]), jnp.array([[0.0, 1.0]])
        >>> print(insertion_curve(backbone, image, map, steps=2, baseline="black", output="logit"))
        [0.   0.5  0.75]
    """
    image = ready_pair(backbone, image, importance)
    target = or_predicted(target, backbone, image)
    substitute = baseline_image(image, baseline, blur_sigma_px=blur_sigma_px)
    ranks, shown = pixel_ranks(importance, seed), jnp.asarray(_shown(importance, steps))
    options = {"target": target, "output": output, "batch_size": batch_size}
    curve = confidences_beside(backbone, image, substitute, ranks, shown, **options)
    return jnp.where(defined(importance), curve, jnp.nan)


def deletion_curve(
    backbone: Backbone, image: Image, importance: Map, *, baseline: BaselineName = "mean", **options
) -> Float32[Array, " _points"]:
    """The network's confidence while the pixels of an image are taken away, the map's highest first.

    It begins at the image and ends at the baseline; a faithful map makes it fall early. It is `insertion_curve` of the
    map upside down, run backward.

    Args:
        backbone: see `insertion_curve`.
        image: see `insertion_curve`.
        importance: see `insertion_curve`.
        baseline: see `insertion_curve`.
        **options: those of `insertion_curve`.

    Returns:
        (steps + 1,) float32; NaN for a map that is constant or not finite.

    Raises:
        ValueError: as `insertion_curve`.

    Source:
        Petsiuk, Das and Saenko 2018, arXiv:1806.07421, which deletes to ImageNet's mean color, not the image's.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(1, 2),
        ...                          preprocess=lambda x: x)
        >>> image, map = jnp.array([[[0.25, 0, 0], [0.5, 0, 0]]]), jnp.array([[0.0, 1.0]])
        >>> print(deletion_curve(backbone, image, map, steps=2, baseline="black", output="logit"))
        [0.75 0.25 0.  ]
    """
    return insertion_curve(backbone, image, -jnp.asarray(importance), baseline=baseline, **options)[::-1]


def insertion_auc(backbone: Backbone, image: Image, importance: Map, **options) -> Float32[Array, ""]:
    """The area under `insertion_curve`: higher is better.

    Trapezoids over the share of pixels that are there, from 0 to 1.

    Args:
        backbone: see `insertion_curve`.
        image: see `insertion_curve`.
        importance: see `insertion_curve`.
        **options: those of `insertion_curve`.

    Returns:
        A number from 0 to 1 for a probability; NaN as the curve.

    Raises:
        ValueError: as `insertion_curve`.

    Source:
        Petsiuk, Das and Saenko 2018, arXiv:1806.07421.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(1, 2),
        ...                          preprocess=lambda x: x)
        >>> image, map = jnp.array([[[0.25, 0, 0], [0.5, 0, 0]]]), jnp.array([[0.0, 1.0]])
        >>> print(insertion_auc(backbone, image, map, steps=2, baseline="black", output="logit"))
        0.4375
    """
    return _area(insertion_curve(backbone, image, importance, **options))


def deletion_auc(backbone: Backbone, image: Image, importance: Map, **options) -> Float32[Array, ""]:
    """The area under `deletion_curve`: lower is better.

    Trapezoids over the share of pixels that are away, from 0 to 1.

    Args:
        backbone: see `insertion_curve`.
        image: see `insertion_curve`.
        importance: see `insertion_curve`.
        **options: those of `deletion_curve`.

    Returns:
        A number from 0 to 1 for a probability; NaN as the curve.

    Raises:
        ValueError: as `insertion_curve`.

    Source:
        Petsiuk, Das and Saenko 2018, arXiv:1806.07421.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(1, 2),
        ...                          preprocess=lambda x: x)
        >>> image, map = jnp.array([[[0.25, 0, 0], [0.5, 0, 0]]]), jnp.array([[0.0, 1.0]])
        >>> print(deletion_auc(backbone, image, map, steps=2, baseline="black", output="logit"))
        0.3125
    """
    return _area(deletion_curve(backbone, image, importance, **options))


def pixel_ranks(importance: Map, seed: int) -> Int32[Array, "*S"]:
    """How many pixels come before each one, the highest first."""
    shuffled = np.random.default_rng(seed).permutation(importance.size).astype(np.int32)
    order = jnp.asarray(shuffled)[jnp.argsort(-jnp.asarray(importance, jnp.float32).ravel()[shuffled], stable=True)]
    return (
        jnp.zeros(importance.size, jnp.int32)
        .at[order]
        .set(jnp.arange(importance.size, dtype=jnp.int32))
        .reshape(importance.shape)
    )


def _shown(importance: Map, steps: int) -> Int32[np.ndarray, " _points"]:
    """How many pixels each step shows."""
    if not 1 <= steps <= importance.size:
        raise ValueError(f"steps: expected 1 to {importance.size}, the number of pixels, got {steps}")
    return np.rint(np.arange(steps + 1) * importance.size / steps).astype(np.int32)


def _area(curve: Float32[Array, " n"]) -> Float32[Array, ""]:
    return jnp.trapezoid(curve) / (len(curve) - 1)
