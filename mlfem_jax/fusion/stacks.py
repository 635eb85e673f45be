"""A stack of FEM maps of several layers and k, made at a network's own resolution."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

from mlfem_jax.importance import fem, normalize


def map_stack(
    activations: Any, shape: tuple[int, ...], *, layers: Sequence[str], ks: Sequence[float], signs: Sequence[str] = ()
) -> Array:
    """The stack of one example that a fusion network reads: FEM of every layer and k, resized and put in [0, 1].

    Where a map is made smaller, each pixel is a weighted mean of what it covers (a triangle twice as wide).

    Args:
        activations: layer name to activation (h, w, C), or of any other number of axes, of ONE example.
        shape: of the maps: that of the backbone's input over the `shrink` of the network, rounded up.
        layers: names, first layer first.
        ks: values of k.
        signs: of each layer, see `mlfem_jax.fem`; none: activations are taken as they are.

    Returns:
        (layers times ks, *shape) float32 in [0, 1]: layer by layer, for each layer every k; a constant map is 0.
    """

    def of_layer(activation: Array, sign: str) -> Array:
        raw = _raw_maps(activation, jnp.asarray(ks, jnp.float32), sign)
        return jax.vmap(normalize)(jax.image.resize(raw, (len(ks), *shape), "linear"))

    pairs = zip(layers, signs or ("as_is",) * len(layers), strict=True)
    return jnp.concatenate([of_layer(activations[name], sign) for name, sign in pairs])


def _raw_maps(activation: Array, ks: Float32[Array, " K"], sign: str) -> Float32[Array, " K *S"]:
    """FEM at every k, in as few kernels as the compiler of the platform makes of it."""
    at = jax.jit(lambda activation, k: fem(activation, k=k, sign=sign))  # jit: traced once, and no kernel of its own

    def together(activation: Array) -> Array:
        # All k at once: a kernel a step, where one k after the other would be as many kernels as maps.
        return jax.vmap(at, (None, 0))(activation, ks)

    def side_by_side(activation: Array) -> Array:
        # A TPU's compiler puts several into a kernel itself; for an axis of k it would write the activation once more.
        return jnp.stack([at(activation, k) for k in ks])

    if len(ks) == 1:
        return together(activation)
    return jax.lax.platform_dependent(activation, tpu=side_by_side, default=together)
