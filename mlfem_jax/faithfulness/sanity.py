"""Whether a map depends on what the network has learned, in two forward passes; and on which class is explained."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

from mlfem_jax.backbones import Backbone, forward_pass
from mlfem_jax.faithfulness.common import Image, Map, Method, defined, ready
from mlfem_jax.faithfulness.randomization import forgetful, rank_map
from mlfem_jax.metrics import pcc


@functools.partial(jax.jit, static_argnames=("method", "bins"))
def complexity_rise(
    backbone: Backbone, key: Array, image: Image, *, method: Method, bins: int = 100
) -> Float32[Array, ""]:
    """By which share the map's complexity rises when the whole network forgets: higher is better.

    A map that shows what was learned is orderly and loses that order. It compares no two maps pixel by pixel, which
    favors noisy methods.

    Args:
        backbone: the network.
        key: of the draws.
        image: (H, W, 3) at the size of the network's input, uint8 or float in [0, 1].
        method: see `randomization_check`.
        bins: of the histogram, see `histogram_entropy`.

    Returns:
        (complexity after - before) / before; NaN where one of the maps is constant or not finite.

    Raises:
        ValueError: less than two bins.

    Source:
        Hedström et al. 2023, arXiv:2401.06465, section 4.2 (efficient MPRT), with a fixed number of bins; weights are
        redrawn as in `randomization_check`.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(4, 4))
        >>> image = jax.random.uniform(jax.random.key(0), (4, 4, 3))
        >>> edges = lambda forward: forward.inputs[..., 0]  # sees the image alone
        >>> print(complexity_rise(backbone, jax.random.key(1), image, method=edges))
        0.0
    """
    if bins < 2:
        raise ValueError(f"bins: expected at least 2, got {bins}")
    pixels = ready(backbone, image)[None]
    before, after = (
        method(forward_pass(network, pixels))[0].astype(jnp.float32) for network in (backbone, forgetful(backbone, key))
    )
    complexity = histogram_entropy(before, bins=bins)
    rise = (histogram_entropy(after, bins=bins) - complexity) / jnp.where(complexity > 0, complexity, 1.0)
    return jnp.where(defined(before) & defined(after), rise, jnp.nan)


def histogram_entropy(importance: Map, *, bins: int) -> Float32[Array, ""]:
    """The entropy, in nats, of how many values of the map lie in each of equal bins between its ends.

    Example:
        >>> print(histogram_entropy(jnp.array([[0.0, 0.4, 0.6, 1.0]]), bins=2).round(4))
        0.6931
    """
    values = jnp.asarray(importance, jnp.float32)
    low, high = values.min(), values.max()
    width = jnp.where(high > low, high - low, 1.0)
    places = jnp.clip(((values - low) / width * bins).astype(jnp.int32), 0, bins - 1)
    counts = jnp.zeros(bins, jnp.float32).at[places.ravel()].add(1.0)
    share = counts / values.size
    return -jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1.0)), 0.0).sum()


@functools.partial(jax.jit, static_argnames=("method",))
def random_logit(backbone: Backbone, key: Array, image: Image, *, method: Method) -> Float32[Array, ""]:
    """How much the map of the predicted class looks like that of another class: lower is better.

    The rank correlation of both maps. A method that explains no class has 1.

    Args:
        backbone: the network.
        key: of the other class.
        image: (H, W, 3) at the size of the network's input, uint8 or float in [0, 1].
        method: see `randomization_check`.

    Returns:
        A number from -1 to 1; NaN where one of the maps is constant or not finite, or the network tells no two classes.

    Source:
        Sixt et al. 2020, "When explanations lie", arXiv:1912.09818, section 5.1 (random logit), where the similarity is
        that of structure (SSIM).

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(4, 4))
        >>> image = jax.random.uniform(jax.random.key(0), (4, 4, 3))
        >>> edges = lambda forward: forward.inputs[..., 0]  # explains no class
        >>> print(random_logit(backbone, jax.random.key(1), image, method=edges).round(3))
        1.0
    """
    forward = forward_pass(backbone, ready(backbone, image)[None])
    classes = forward.logits.shape[1]
    if backbone.embeds or classes < 2:
        return jnp.array(jnp.nan, jnp.float32)
    predicted = forward.logits.argmax(axis=1)[:, None].astype(jnp.int32)
    other = (predicted + jax.random.randint(key, (1, 1), 1, classes, jnp.int32)) % classes
    one, two = (
        rank_map(method(dataclasses.replace(forward, targets=target))[0].astype(jnp.float32))
        for target in (predicted, other)
    )
    return pcc(one, two)
