"""Metrics of a map against a gaze fixation density map (GFDM)."""

from typing import Literal

import jax.numpy as jnp

from mlfem_jax.metrics.common import (
    MIT_EPSILON,
    ContentBox,
    Map,
    Score,
    content,
    density,
    deviations,
    or_nan,
    same_shape,
    unit_range,
)


def pcc(importance: Map, gfdm: Map, *, content_box: ContentBox = None) -> Score:
    """Pearson's correlation coefficient between a map and a gaze fixation density map.

    Their covariance over the product of their standard deviations. It does not change when either map is scaled or
    shifted, and is symmetric in the two.

    Args:
        importance: (H, W) of any range.
        gfdm: (H, W) of any range.
        content_box: see `mlfem.metrics`.

    Returns:
        A number from -1 to 1; NaN if either map is constant, or has a NaN.

    Raises:
        ValueError: the two differ in shape.

    Source:
        The paper, section 3. pysaliency's CC is 0, not NaN, for a constant map and a varied density.

    Example:
        >>> print(pcc(jnp.array([[0.0, 1.0, 2.0]]), jnp.array([[5.0, 3.0, 1.0]])).round(3))
        -1.0
    """
    same_shape(importance, gfdm, "gfdm")
    inside = content(importance.shape, content_box)
    count = jnp.maximum(inside.sum(), 1).astype(jnp.float32)
    first, first_variance, first_defined = deviations(importance, inside)
    second, second_variance, second_defined = deviations(gfdm, inside)
    covariance = (first * second).sum() / count
    return or_nan(covariance / jnp.sqrt(first_variance * second_variance), first_defined, second_defined)


def similarity(
    importance: Map, gfdm: Map, *, convention: Literal["paper", "mit"] = "paper", content_box: ContentBox = None
) -> Score:
    """SIM: how much of a map's mass lies where the density's mass is.

    Both maps are divided by their sums, and the smaller of the two values is summed over all pixels. It is symmetric in
    the two, and does not change when either is scaled; a pedestal under a map changes it, which is where the two
    conventions differ.

    Args:
        importance: (H, W). One with negative values is shifted to minimum 0 first.
        gfdm: (H, W), likewise.
        convention: "paper", the sum alone; "mit", both maps are scaled to [0, 1] before it.
        content_box: see `mlfem.metrics`.

    Returns:
        A number from 0 (nowhere both) to 1 (the same); NaN if either map is constant, or has a NaN.

    Raises:
        ValueError: the two differ in shape; an unknown convention.

    Source:
        The paper, section 3, and pysaliency's SIM, which differs in taking a zero map as uniform. "mit": Judd, Durand
        and Torralba 2012, "A benchmark of computational models of saliency to predict human fixations", as in the MIT
        saliency benchmark; maps are not resized here.

    Example:
        >>> print(similarity(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.5]])).round(3))
        0.85
    """
    same_shape(importance, gfdm, "gfdm")
    if convention not in ("paper", "mit"):
        raise ValueError(f"convention: expected 'paper' or 'mit', got {convention!r}")
    inside = content(importance.shape, content_box)
    if convention == "mit":
        (importance, _), (gfdm, _) = unit_range(importance, inside), unit_range(gfdm, inside)
    (first, first_defined), (second, second_defined) = density(importance, inside), density(gfdm, inside)
    return or_nan(jnp.minimum(first, second).sum(), first_defined, second_defined)


def kl_divergence(importance: Map, gfdm: Map, *, content_box: ContentBox = None) -> Score:
    """The Kullback-Leibler divergence of the density from the map, in nats: lower is better.

    With P the map and G the density, each divided by its sum, the sum over all pixels of
    G ln(epsilon + G / (epsilon + P)), epsilon = 2.2e-16. It punishes gaze where the map is zero: one such pixel counts
    up to 36 G. It is not symmetric.

    Args:
        importance: (H, W). One with negative values is shifted to minimum 0 first.
        gfdm: (H, W), likewise.
        content_box: see `mlfem.metrics`.

    Returns:
        A number from 0 (the same) to about 36; NaN if either map is constant, or has a NaN.

    Raises:
        ValueError: the two differ in shape.

    Source:
        The MIT/Tuebingen saliency benchmark; pysaliency's MIT_KLDiv, which differs in taking a zero map as uniform.

    Example:
        >>> print(kl_divergence(jnp.array([[1.0, 3.0]]), jnp.array([[3.0, 1.0]])).round(3))  # ln(3) / 2
        0.549
    """
    same_shape(importance, gfdm, "gfdm")
    inside = content(importance.shape, content_box)
    (predicted, map_defined), (gaze, gfdm_defined) = density(importance, inside), density(gfdm, inside)
    ratio = MIT_EPSILON + gaze / (predicted + MIT_EPSILON)
    return or_nan((gaze * jnp.log(ratio)).sum(), map_defined, gfdm_defined)
