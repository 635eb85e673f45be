"""Whether a map stays the same when the image hardly changes."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

from mlfem_jax.backbones import Backbone, forward_pass
from mlfem_jax.faithfulness.common import Image, Method, defined, ready
from mlfem_jax.parallel import images_at_once, over_chunks


@functools.partial(jax.jit, static_argnames=("method", "draws", "radius", "batch_size"))
def local_lipschitz(
    backbone: Backbone,
    key: Array,
    image: Image,
    *,
    method: Method,
    draws: int = 16,
    radius: float = 0.05,
    batch_size: int = 32,
) -> Float32[Array, ""]:
    """The largest change of the map for a change of the image around it: lower is more stable.

    The maximum over draws of ||map(x) - map(x')|| / ||x - x'||, Euclidean norms, where every value of x' is drawn
    uniformly within `radius` of x and cut to [0, 1] (other data than photographs is not cut). The maximum over draws is
    a lower bound of that over the whole neighborhood, and grows with their number: compare methods at the same number,
    radius and key.

    Args:
        backbone: the network.
        key: of the noise.
        image: (H, W, 3) at the size of the network's input, uint8 or float in [0, 1].
        method: from a `Forward` over a batch to maps (N, H, W), such as `method("fem")`; compiled once for each.
        draws: number of neighbors; one forward pass each, and one for the image.
        radius: of the neighborhood, in the units of the image, above 0.
        batch_size: most images in a forward pass; under `jax.vmap` times the number of images.

    Returns:
        A number from 0; NaN if the map of the image is constant or not finite, or a neighbor's is not finite.

    Raises:
        ValueError: no draws, or a radius that is not above 0.

    Source:
        Alvarez-Melis and Jaakkola 2018, "On the robustness of interpretability methods", arXiv:1806.08049, equation 2,
        by draws instead of a search.

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)), {"x": x}), jnp.eye(3), input_size=(4, 4),
        ...                          preprocess=lambda x: x)
        >>> image = jnp.linspace(0.3, 0.6, 48).reshape(4, 4, 3)
        >>> first_channel = lambda forward: forward.inputs[..., 0]
        >>> print(local_lipschitz(backbone, jax.random.key(0), image, method=first_channel) <= 1)
        True
    """
    importance, changes, moved = _near(backbone, key, image, method, draws, radius, batch_size)
    return jnp.where(defined(importance), (changes / moved).max(), jnp.nan)


@functools.partial(jax.jit, static_argnames=("method", "draws", "radius", "batch_size"))
def max_sensitivity(
    backbone: Backbone,
    key: Array,
    image: Image,
    *,
    method: Method,
    draws: int = 16,
    radius: float = 0.02,
    batch_size: int = 32,
) -> Float32[Array, ""]:
    """The largest change of the map around the image, as a share of the map: lower is more stable.

    The maximum over draws of ||map(x) - map(x')|| / ||map(x)||, Euclidean norms; see `local_lipschitz`, which divides
    by the change of the image instead.

    Args:
        backbone: the network.
        key: of the noise.
        image: see `local_lipschitz`.
        method: see `local_lipschitz`.
        draws: see `local_lipschitz`.
        radius: of the neighborhood, in the units of the image, above 0.
        batch_size: see `local_lipschitz`.

    Returns:
        A number from 0; NaN as `local_lipschitz`.

    Raises:
        ValueError: no draws, or a radius that is not above 0.

    Source:
        Yeh et al. 2019, arXiv:1901.09392, definition 3.1, by draws, as captum's `sensitivity_max` (which divides by the
        norm and does not cut x' to [0, 1]).

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)), {"x": x}), jnp.eye(3), input_size=(4, 4),
        ...                          preprocess=lambda x: x)
        >>> image = jnp.linspace(0.3, 0.6, 48).reshape(4, 4, 3)
        >>> first_channel = lambda forward: forward.inputs[..., 0]
        >>> print(max_sensitivity(backbone, jax.random.key(0), image, method=first_channel) <= 0.02 / 0.3)
        True
    """
    importance, changes, _ = _near(backbone, key, image, method, draws, radius, batch_size)
    size = jnp.sqrt(jnp.square(importance).sum())
    return jnp.where(defined(importance), changes.max() / jnp.where(size > 0, size, 1.0), jnp.nan)


def _near(
    backbone: Backbone, key: Array, image: Image, method: Method, draws: int, radius: float, batch_size: int
) -> tuple[Float32[Array, "*s"], Float32[Array, " draws"], Float32[Array, " draws"]]:
    """The map; and for each neighbor, how far its map and how far the neighbor itself is away."""
    if draws < 1 or not radius > 0:
        raise ValueError(f"draws and radius: expected numbers above 0, got {draws} and {radius}")
    image = ready(backbone, image)
    importance = method(forward_pass(backbone, image[None]))[0].astype(jnp.float32)

    def noise(key):
        return jax.random.uniform(key, image.shape, jnp.float32, minval=-radius, maxval=radius)

    def distances(keys):
        near = image[None] + jax.vmap(noise)(keys)
        near = jnp.clip(near, 0.0, 1.0) if backbone.photos else near
        changes = method(forward_pass(backbone, near)).astype(jnp.float32) - importance[None]
        return _lengths(changes), _lengths(near - image[None])

    changes, moved = over_chunks(distances, jax.random.split(key, draws), images_at_once(batch_size))
    return importance, changes, moved


def _lengths(changes: Float32[Array, "draws ..."]) -> Float32[Array, " draws"]:
    """The Euclidean norm of each."""
    return jnp.sqrt(jnp.square(changes).sum(axis=tuple(range(1, changes.ndim))))
