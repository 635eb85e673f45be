"""How much of an image a map points at: a map in, one number out."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32

from mlfem_jax.metrics.common import Map, Score, or_nan


def sparseness(importance: Map) -> Score:
    """The Gini index of the map's magnitudes: 0, all pixels matter alike; near 1, a single one does.

    Args:
        importance: (H, W) of any range; its sign does not count.

    Returns:
        A number from 0 to 1 - 1 / (number of pixels); 0 for a constant map that is not zero. NaN for zeros and for a
        map that is not finite.

    Source:
        Chalasani et al. 2020, arXiv:1810.06583, section 5; Hurley and Rickard 2009, doi:10.1109/TIT.2009.2027527.

    Example:
        >>> print(sparseness(jnp.array([[0.0, 0.0, 0.0, 1.0]])), sparseness(jnp.ones((2, 2))))
        0.75 0.0
    """
    share, defined = _shares(importance)
    ascending = jnp.sort(share.ravel())
    weights = (2 * jnp.arange(1, share.size + 1, dtype=jnp.float32) - share.size - 1) / share.size
    return or_nan((weights * ascending).sum(), defined)


def entropy(importance: Map) -> Score:
    """The entropy of the map's magnitudes as shares of their sum, in nats: lower is simpler.

    Args:
        importance: (H, W) of any range; its sign does not count.

    Returns:
        A number from 0 (a single pixel) to the logarithm of the number of pixels (a constant map); NaN as `sparseness`.

    Source:
        Bhatt, Weller and Moura 2020, arXiv:2005.00631, definition 3 (complexity).

    Example:
        >>> print(entropy(jnp.array([[1.0, 1.0], [0.0, 0.0]])).round(3))
        0.693
    """
    share, defined = _shares(importance)
    return or_nan(-(share * jnp.log(jnp.where(share > 0, share, 1.0))).sum(), defined)


def effective_complexity(importance: Map, *, threshold: float = 1e-5) -> Score:
    """The share of pixels whose magnitude is above a threshold, relative to the largest: lower is simpler.

    Args:
        importance: (H, W) of any range; its sign does not count.
        threshold: as a share of the largest magnitude.

    Returns:
        A number from 0 to 1; NaN as `sparseness`.

    Raises:
        ValueError: a threshold outside [0, 1).

    Source:
        Nguyen and Martinez 2020, arXiv:2007.07584, section 2.4, as Quantus computes it but for the scale: there the
        threshold is one of values and the result is a number of pixels.

    Example:
        >>> print(effective_complexity(jnp.array([[4.0, 1.0, 0.0, 0.0]]), threshold=0.5))
        0.25
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold: expected a share of the maximum, from 0 to below 1, got {threshold}")
    share, defined = _shares(importance)
    return or_nan((share > threshold * share.max()).mean(dtype=jnp.float32), defined)


def _shares(importance: Map) -> tuple[Float32[Array, "*S"], Bool[Array, ""]]:
    """Magnitudes as shares of their sum, and whether that is above 0."""
    size = jnp.abs(jnp.asarray(importance, jnp.float32))
    peak = size.max()
    usable = jnp.isfinite(peak) & (peak > 0)
    size = jnp.where(usable, size / jnp.where(usable, peak, 1.0), 0.0)  # a sum of large values would not be finite
    total = size.sum()
    return size / jnp.where(usable, total, 1.0), usable
