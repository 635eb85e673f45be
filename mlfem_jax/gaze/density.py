"""Human gaze: fixations to density maps (GFDM), and from the photograph's frame to another one.

Coordinates are (y, x) in pixels, 0-based, (0, 0) the center of the upper left pixel. Densities are float32.
"""

import functools
import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Num

Arrays: TypeAlias = Array | np.ndarray
Number: TypeAlias = float | int
Sigma: TypeAlias = Number | tuple[Number, ...] | Float[Arrays, ""] | Float[Arrays, " axes"]

SMALLEST_SIGMA_PX = 0.1
LARGEST_SIGMA_PX = 1e5
_NOTHING = 1e-30  # total weight in the frame below which a density is taken as blank: float32 ends at 1e-38


def gaze_density(
    fixations: Num[Arrays, "n axes"],
    shape: tuple[int, ...],
    *,
    sigma_px: Sigma,
    weights: Num[Arrays, " n"] | None = None,
    mask: Bool[Arrays, " n"] | None = None,
) -> Float32[Array, "*S"]:
    """The gaze fixation density map (GFDM) of one image; or the event map of a signal, a clip or a volume.

    What is said of fixations (y, x) holds for events at known places along any number of axes: moments in a signal
    (n, 1), fixations on a film (n, 3) as (t, y, x), with a sigma along time, blobs in a volume.

    A two-dimensional Gaussian on every fixation, weighted, summed and normalized. A Gaussian is the product
    of one along y and one along x, so the sum over n fixations is the product of an (H, n) and an (n, W)
    matrix: exact at fractional coordinates, without a histogram, and cheap on an accelerator. What falls
    outside the frame is cut, and what is left is normalized, as SciPy's `gaussian_filter(mode="constant")`.

    Args:
        fixations: (n, 2) as (y, x), in pixels. A fixation with a NaN or infinite coordinate has no place, and
            counts for nothing. One outside the frame contributes the tail that reaches into it.
        shape: (height, width) of the map, in pixels.
        sigma_px: standard deviation, in pixels, above 0: one number, or the two along (y, x) for a frame that
            was stretched (see `scale_sigma`); in general one for each axis, in its samples.
        weights: (n,) not negative, for instance durations, or `observer_weights`. Default: all equal. A NaN
            weight makes the map NaN.
        mask: (n,) False for entries that only pad the list: they count for nothing. Default: none does.

    Returns:
        (H, W) not negative, sums to 1; all zeros if no fixation has a place, a weight and a share of the
        frame (a lone fixation some 11 sigma outside has none).

    Raises:
        ValueError: if `shape` is not above 0, or a Python number `sigma_px` is refused by `check_sigma`.

    Source:
        Wooding 2002, "Fixation maps: quantifying eye-movement traces", doi:10.1145/507072.507085.

    Example:
        >>> print(gaze_density(np.array([[0, 1]]), (1, 3), sigma_px=1.0))
        [[0.27406862 0.45186275 0.27406862]]
        >>> gaze_density(np.array([[12, 20, 30]]), (25, 48, 64), sigma_px=(5.0, 3.0, 3.0)).shape
        (25, 48, 64)
    """
    _check(shape, sigma_px, axes=fixations.shape[1])
    points = jnp.asarray(fixations, jnp.float32)
    counted = jnp.isfinite(points).all(axis=-1)
    if mask is not None:
        counted = counted & jnp.asarray(mask)
    weights = jnp.ones(len(points), jnp.float32) if weights is None else jnp.asarray(weights, jnp.float32)
    weights = jnp.where(counted, weights, 0.0)
    points = jnp.where(counted[:, None], points, 0.0)
    sigmas = jnp.broadcast_to(jnp.asarray(sigma_px, jnp.float32), (len(shape),))
    rows, *others = (_gaussians(points[:, axis], length, sigmas[axis]) for axis, length in enumerate(shape))
    total = jnp.sum(functools.reduce(lambda share, bells: share * bells.sum(axis=1), [rows, *others], weights))
    # Not `total > _NOTHING`: a NaN total has to show in the map.
    weights = jnp.where(total <= _NOTHING, 0.0, weights / total)
    columns = functools.reduce(_outer, others) if others else jnp.ones((len(points), 1), jnp.float32)
    # The default precision of accelerators (TF32, bfloat16) is wrong in the third digit.
    density = jnp.matmul((weights[:, None] * rows).T, columns, precision=jax.lax.Precision.HIGHEST)
    return density.reshape(shape)


def gaze_densities(
    fixations: Num[Arrays, "N n axes"],
    shape: tuple[int, ...],
    *,
    sigma_px: Sigma | Float[Arrays, "N axes"],
    weights: Num[Arrays, "N n"] | None = None,
    mask: Bool[Arrays, "N n"] | None = None,
) -> Float32[Array, " N *S"]:
    """`gaze_density` of every image of a batch, jitted: one compilation for each `shape` and padded length n.

    Args:
        fixations: (N, n, 2) as (y, x), in pixels; shorter lists are padded, and `mask` says where.
        shape: (height, width) of the maps, in pixels.
        sigma_px: as for `gaze_density`, the same for all images; or (N, 2), along (y, x), for each.
        weights: (N, n) not negative. Default: all equal.
        mask: (N, n) False for padding. Default: no padding.

    Returns:
        (N, H, W) each as `gaze_density` returns it.

    Raises:
        ValueError: as `gaze_density`.

    Example:
        >>> padded, mask = np.zeros((2, 5, 2)), np.arange(5) < np.array([[3], [0]])
        >>> gaze_densities(padded, (48, 64), sigma_px=2.0, mask=mask).sum(axis=(1, 2)).round(3)
        Array([1., 0.], dtype=float32)
    """
    _check(shape, sigma_px, axes=fixations.shape[2])
    fixations = jnp.asarray(fixations, jnp.float32)
    weights = None if weights is None else jnp.asarray(weights, jnp.float32)
    return _gaze_densities(fixations, shape, jnp.asarray(sigma_px, jnp.float32), weights, mask)


@functools.partial(jax.jit, static_argnums=1)
def _gaze_densities(fixations, shape, sigma_px, weights, mask):
    def density(fixations, sigma_px, weights, mask):
        return gaze_density(fixations, shape, sigma_px=sigma_px, weights=weights, mask=mask)

    axes = (0, 0 if sigma_px.ndim == 2 else None, 0, 0)
    return jax.vmap(density, in_axes=axes)(fixations, sigma_px, weights, mask)


def half_densities(
    fixations: Num[Arrays, "n 2"],
    observers: Int[Arrays, " n"],
    shape: tuple[int, int],
    *,
    sigma_px: Sigma,
    mask: Bool[Arrays, " n"] | None = None,
) -> Float32[Array, "2 H W"]:
    """The GFDM of the even-numbered observers, and that of the odd-numbered ones.

    How well the two halves agree is the most that a model of gaze can be asked for: the human ceiling.

    Args:
        fixations: (n, 2) as (y, x), in pixels.
        observers: (n,) number of the observer who made each; -1, unknown, is in neither half.
        shape: (height, width) of the maps, in pixels.
        sigma_px: standard deviation, in pixels.
        mask: (n,) False for padding. Default: no padding.

    Returns:
        (2, H, W) even, then odd; all zeros for a half without fixations.

    Raises:
        ValueError: as `gaze_density`.

    Example:
        >>> half_densities(np.zeros((2, 2)), np.array([0, 2]), (4, 4), sigma_px=1.0).sum(axis=(1, 2)).round(3)
        Array([1., 0.], dtype=float32)
    """
    observers = jnp.asarray(observers)
    known = observers >= 0
    if mask is not None:
        known = known & jnp.asarray(mask)
    halves = jnp.stack([known & (observers % 2 == 0), known & (observers % 2 == 1)])
    return jax.vmap(lambda half: gaze_density(fixations, shape, sigma_px=sigma_px, mask=half))(halves)


def count_density(counts: Num[Arrays, "*S"], *, sigma_px: Sigma) -> Float32[Array, "*S"]:
    """The GFDM of fixations that are given as their number in each pixel, as `gaze_density` of the pixels' centers.

    It costs two small matrix products however many fixations there are.

    Args:
        counts: (H, W) not negative, or of any other number of axes.
        sigma_px: see `gaze_density`.

    Returns:
        (H, W) not negative, sums to 1; all zeros without a fixation.

    Raises:
        ValueError: as `gaze_density`.

    Example:
        >>> print(count_density(np.array([[0, 1, 0]]), sigma_px=1.0))
        [[0.27406862 0.45186275 0.27406862]]
    """
    _check(counts.shape, sigma_px, axes=counts.ndim)
    sigmas = jnp.broadcast_to(jnp.asarray(sigma_px, jnp.float32), (counts.ndim,))
    rows, *others = (
        _gaussians(jnp.arange(length, dtype=jnp.float32), length, sigma)
        for length, sigma in zip(counts.shape, sigmas, strict=True)
    )
    exact = functools.partial(jnp.tensordot, precision=jax.lax.Precision.HIGHEST)
    density = exact(rows.T, jnp.asarray(counts, jnp.float32), axes=1)
    for bells in others:  # each takes the second axis and puts its own behind the last
        density = exact(density, bells, axes=(1, 0))
    total = density.sum()
    return density / jnp.where(total > 0, total, 1.0)


def check_sigma(sigma_px: Number) -> None:
    """Refuses a sigma that makes no density map: below a tenth of a pixel a fixation between pixels leaves no trace.

    Args:
        sigma_px: standard deviation of the Gaussian on each fixation, in pixels.

    Raises:
        ValueError: it is not a number from 0.1 to 100,000.

    Example:
        >>> check_sigma(24.0)
    """
    if not SMALLEST_SIGMA_PX <= sigma_px <= LARGEST_SIGMA_PX:
        raise ValueError(
            f"sigma_px: expected a positive number of pixels, from {SMALLEST_SIGMA_PX} to {LARGEST_SIGMA_PX:,.0f}, "
            f"got {sigma_px}"
        )


def observer_weights(observers: Int[Arrays, " n"], *, mask: Bool[Arrays, " n"] | None = None) -> Float32[Array, " n"]:
    """Weights that let every observer count the same, however many fixations each made.

    Args:
        observers: (n,) number of the observer who made each fixation. All that are -1 (unknown) count
            together as one observer.
        mask: (n,) False for padding. Default: no padding.

    Returns:
        (n,) one over the observer's number of fixations, so that each observer's weights sum to 1; 0 where
        masked.

    Example:
        >>> observer_weights(np.array([7, 7, 3])).tolist()
        [0.5, 0.5, 1.0]
    """
    observers = jnp.asarray(observers)
    mask = jnp.ones(observers.shape, bool) if mask is None else jnp.asarray(mask)
    same = (observers[:, None] == observers[None, :]) & mask[None, :]
    counts = same.sum(axis=1, dtype=jnp.float32)
    return jnp.where(mask, 1.0 / jnp.maximum(counts, 1.0), 0.0)


def sigma_px_of(
    degrees: Number,
    *,
    screen_size_cm: tuple[Number, Number],
    distance_cm: Number,
    resolution_px: tuple[int, int],
) -> float:
    """The sigma in pixels that spans an angle of vision, in an experiment of known geometry.

    An angle a centered on the line of sight spans 2 d tan(a / 2) on a screen at distance d. One degree, about
    the width of the fovea's sharpest part, is the usual choice.

    Args:
        degrees: the angle, in degrees, above 0.
        screen_size_cm: (height, width) of the picture on the screen.
        distance_cm: from the eye to the screen.
        resolution_px: (height, width) of the picture on the screen.

    Returns:
        Pixels, by the mean of the pixel densities along the two axes.

    Raises:
        ValueError: if a number is not above 0, or the pixels are not square to within 5 %: no one sigma would
            serve both axes, and more often height and width were exchanged.

    Example:
        >>> round(sigma_px_of(1.0, screen_size_cm=(30, 40), distance_cm=57.3, resolution_px=(768, 1024)), 1)
        25.6
    """
    if min(degrees, distance_cm, *screen_size_cm, *resolution_px) <= 0:
        raise ValueError(
            f"degrees, screen_size_cm, distance_cm and resolution_px: expected numbers above 0, got {degrees}, "
            f"{screen_size_cm}, {distance_cm} and {resolution_px}"
        )
    px_per_cm_y, px_per_cm_x = (px / cm for px, cm in zip(resolution_px, screen_size_cm, strict=True))
    if abs(px_per_cm_y / px_per_cm_x - 1) > 0.05:
        raise ValueError(
            "screen_size_cm and resolution_px: expected (height, width) of square pixels, got "
            f"{screen_size_cm} and {resolution_px}: {px_per_cm_y:.1f} pixels/cm along y and {px_per_cm_x:.1f} along x"
        )
    return distance_cm * math.tan(math.radians(degrees) / 2) * (px_per_cm_y + px_per_cm_x)


def _gaussians(centers, length, sigma_px):
    """(n, length): a Gaussian of height 1 around each center, sampled at the pixels' centers."""
    offsets = jnp.arange(length, dtype=jnp.float32)[None, :] - centers[:, None]
    return jnp.exp(-0.5 * jnp.square(offsets / sigma_px))


def _outer(first, second):
    """(n, a) and (n, b) to (n, a b): all products of the two rows of each fixation."""
    return (first[:, :, None] * second[:, None]).reshape(len(first), first.shape[1] * second.shape[1])


def _check(shape, sigma_px, axes):
    if len(shape) != axes or min(shape, default=0) < 1:
        wanted = "(height, width), both above 0" if axes == 2 else f"{axes} lengths above 0, as a place has coordinates"
        raise ValueError(f"shape: expected {wanted}, got {shape}")
    if isinstance(sigma_px, tuple) and len(sigma_px) != axes:
        raise ValueError(f"sigma_px: expected one number, or one for each of {axes} axes, got {sigma_px}")
    for sigma in sigma_px if isinstance(sigma_px, tuple) else [sigma_px]:
        if isinstance(sigma, int | float):
            check_sigma(sigma)
