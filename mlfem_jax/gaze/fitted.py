"""A map as a density of fixations: the monotone curve, blur and center bias that predict fixations best."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32

from mlfem_jax.gaze.density import Arrays
from mlfem_jax.gaze.smoothing import smooth_map

_NODES = 20
_RINGS = 12
_FLOOR = 1e-4  # of the density's height before the center bias: no pixel is impossible


@dataclasses.dataclass(frozen=True)
class DensityFit:
    """What turns a method's maps into densities of fixations; hashable, and JSON by `dataclasses.asdict`.

    Attributes:
        sigma_px: standard deviation of the blur, in pixels of the map.
        curve: heights at 20 values from 0 to 1 of the blurred map, not decreasing, linear between.
        rings: factors at 12 distances from the center, from 0 to that of the corners, linear between.
    """

    sigma_px: float
    curve: tuple[float, ...]
    rings: tuple[float, ...]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "DensityFit":
        """From what `dataclasses.asdict` gave, perhaps through JSON.

        Raises:
            ValueError: something is missing, or is no number.
        """
        try:
            fit = cls(float(stored["sigma_px"]), *(tuple(map(float, stored[name])) for name in ("curve", "rings")))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"fit: expected sigma_px, curve and rings, got {stored!r:.80}") from error
        numbers = np.array([fit.sigma_px, *fit.curve, *fit.rings])
        whole = len(fit.curve) == _NODES and len(fit.rings) == _RINGS and np.isfinite(numbers).all()
        if not whole or fit.sigma_px <= 0 or numbers.min() < 0 or numbers.max() > np.finfo(np.float32).max:
            raise ValueError(
                f"fit: expected {_NODES} heights, {_RINGS} rings, 0 or more, and a positive sigma_px, got {fit!r:.80}"
            )
        return fit


def fitted_density(
    importance: Float[Arrays, "H W"],
    fit: DensityFit | tuple[Array, Array, Array],
    *,
    content_box: Any = None,
) -> Float32[Array, "H W"]:
    """The density of fixations that a map stands for.

    The map, scaled to [0, 1] and blurred, is put through the curve and multiplied by the factor of each pixel's
    distance from the center.

    Args:
        importance: (H, W) of any range.
        fit: from `fit_density`; or its three parts as arrays, which may be traced.
        content_box: (y0, x0, y1, x1) half open: the pixels that exist. Default: all.

    Returns:
        (H, W) float32, above 0 inside the box, sums to 1; of a constant map the center bias alone.

    Source:
        Kümmerer, Wallis and Bethge 2015, doi:10.1073/pnas.1510393112, supplement: nonlinearity, blur and center bias
        by maximum likelihood, as in pysaliency. The blur ends at the content here.

    Example:
        >>> fit = DensityFit(1.0, tuple(np.linspace(0, 1, 20)), (1.0,) * 12)
        >>> print(fitted_density(jnp.eye(3), fit).sum().round(3))
        1.0
    """
    parts = (fit.sigma_px, fit.curve, fit.rings) if isinstance(fit, DensityFit) else fit
    sigma_px, curve, rings = (jnp.asarray(part, jnp.float32) for part in parts)
    height, width = importance.shape
    box = jnp.array([0, 0, height, width]) if content_box is None else jnp.asarray(content_box)
    rows, columns = jnp.arange(height), jnp.arange(width)
    inside = ((rows >= box[0]) & (rows < box[2]))[:, None] & ((columns >= box[1]) & (columns < box[3]))[None]
    importance = jnp.asarray(importance, jnp.float32)
    low = importance.min(where=inside, initial=jnp.inf)
    span = importance.max(where=inside, initial=-jnp.inf) - low
    unit = jnp.where(inside, (importance - low) / jnp.where(span > 0, span, 1.0), 0.0)
    blurred = jnp.clip(smooth_map(unit, sigma_px=sigma_px, content_box=box), 0.0, 1.0)
    heights = jnp.interp(blurred.ravel(), jnp.linspace(0, 1, _NODES), curve).reshape(height, width) + _FLOOR
    edges = box.astype(jnp.float32)
    y, x = (
        (jnp.arange(n, dtype=jnp.float32) + 0.5 - (start + end) / 2) / jnp.maximum(end - start, 1.0)
        for n, start, end in ((height, edges[0], edges[2]), (width, edges[1], edges[3]))
    )
    distance = jnp.hypot(y[:, None], x[None]) * np.float32(np.sqrt(2))  # 1 at the corners
    factors = jnp.interp(distance.ravel(), jnp.linspace(0, 1, _RINGS), rings).reshape(height, width)
    density = jnp.where(inside, heights * factors, 0.0)
    return density / density.sum()


def fit_density(
    maps: Float[Arrays, "N H W"],
    fixations: Float[Arrays, "N n 2"],
    mask: Bool[Arrays, "N n"],
    *,
    sigma_px: float = 2.0,
    steps: int = 60,
) -> DensityFit:
    """The curve, blur and center bias under which the fixations are likeliest; fit and judge on different images.

    Every image counts the same. L-BFGS from a straight curve and no center bias; the likelihood is smooth in all
    parameters, so the result depends on neither a seed nor an order.

    Args:
        maps: of one method, on images to fit on.
        fixations: on each, as (y, x) in pixels of the maps; those outside count for nothing.
        mask: False for padding.
        sigma_px: of the blur to begin with.
        steps: of the optimizer.

    Returns:
        The fit; its `sigma_px` is in pixels of these maps.

    Raises:
        ValueError: no fixation lies on a map.
        ModuleNotFoundError: SciPy is not installed (the extra `data` has it).

    Source:
        See `fitted_density`.
    """
    from scipy import optimize

    maps, fixations = jnp.asarray(maps, jnp.float32), jnp.asarray(fixations, jnp.float32)
    pixels = jnp.floor(fixations + 0.5)
    size = jnp.array(maps.shape[1:], jnp.float32)[None, None]
    counted = jnp.asarray(mask) & ((pixels >= 0) & (pixels < size)).all(axis=-1)
    if not counted.any():
        raise ValueError("fixations: expected some on the maps to fit on, got none")
    places = jnp.where(counted[..., None], pixels, 0.0).astype(jnp.int32)
    start = np.concatenate([[np.log(sigma_px)], np.zeros(_NODES + _RINGS)])

    def cost(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _cost(jnp.asarray(numbers, jnp.float32), maps, places, counted)
        return float(value), np.asarray(slope, np.float64)

    found = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": steps}).x
    sigma, curve, rings = (np.asarray(part, float) for part in _positive(jnp.asarray(found, jnp.float32)))
    return DensityFit(float(sigma), tuple(curve.tolist()), tuple(rings.tolist()))


def _positive(numbers: Float32[Array, " parameters"]) -> tuple[Array, Array, Array]:
    """Sigma, the curve, which ends at 1, and the rings, of mean 1, from numbers without bounds."""
    sigma, slopes, rings = numbers[0], numbers[1 : 1 + _NODES], numbers[1 + _NODES :]
    curve = jnp.cumsum(jax.nn.softmax(slopes))
    return jnp.exp(jnp.clip(sigma, -2.0, 5.0)), curve, _RINGS * jax.nn.softmax(rings)


@jax.jit
@jax.value_and_grad
def _cost(
    numbers: Float32[Array, " parameters"],
    maps: Float32[Array, "N H W"],
    places: Int32[Array, "N n 2"],
    counted: Bool[Array, "N n"],
) -> Float32[Array, ""]:
    """Minus the mean over images of the mean log-density of their fixations."""
    parts = _positive(numbers)

    @jax.checkpoint
    def of_image(image: tuple[Array, Array, Array]) -> Array:
        importance, places, counted = image
        density = fitted_density(importance, parts)
        logs = jnp.where(counted, jnp.log(density[places[:, 0], places[:, 1]]), 0.0)
        return logs.sum() / jnp.maximum(counted.sum(), 1).astype(jnp.float32)

    likelihoods = jax.lax.map(of_image, (maps, places, counted))
    return -likelihoods.sum() / counted.any(axis=1).sum().astype(jnp.float32)
