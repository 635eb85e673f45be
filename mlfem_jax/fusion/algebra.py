"""From a stack of importance maps to one map, by algebra (the learned fusion is in `network.py`)."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.importance import normalize as min_max

Map = Float[Array, "*S"]
Alpha = float | Float[Array, ""]

OPERATORS = ("max", "add", "top", "fem", "mean", "product")
"""Names that `fuse(operator=...)` accepts."""

ALPHA = 0.9
"""Default weight of what is fused already: the best of ten on every training fold of OSIE, for add and for top."""


def _add(fused: Map, layer: Map, alpha: Alpha) -> Map:
    alpha = jnp.asarray(alpha, fused.dtype)
    return alpha * fused + (1 - alpha) * layer


def _top(fused: Map, layer: Map, alpha: Alpha) -> Map:
    return _add(fused, jnp.where(layer > layer.mean(), layer, jnp.zeros_like(layer)), alpha)


def _step(operator: str, alpha: Alpha, depth: int) -> Callable[[Map, Map], Map]:
    """The binary operator that takes in the layer number `depth` (the second layer is 2)."""
    match operator:
        case "max":
            return jnp.maximum
        case "add":
            return lambda fused, layer: _add(fused, layer, alpha)
        case "top":
            return lambda fused, layer: _top(fused, layer, alpha)
        case "fem":
            return lambda fused, layer: layer
        case "mean":
            return lambda fused, layer: _add(fused, layer, (depth - 1) / depth)
        case "product":
            return jnp.multiply
    raise ValueError(f"operator: expected one of {', '.join(OPERATORS)}, got {operator!r}")


def fuse(
    maps: Float[Array, " L *S"] | Sequence[Map],
    *,
    operator: str = "add",
    alpha: Alpha = ALPHA,
    normalize: str = "end",
) -> Float[Array, "*S"]:
    """One importance map from those of several layers, by folding a binary operator from the first to the last.

    The fold starts with the first map and takes in the others one by one:

    - "max": the larger of the two, at each pixel;
    - "add": alpha * fused + (1 - alpha) * layer, so that the last layers weigh most;
    - "top": as "add", with the layer set to zero where it is not above its own mean;
    - "fem": the layer alone, so the last one is left: plain FEM;
    - "mean" and "product": of all layers, as the peer tools fuse; "mean" is taken as a running mean.

    Args:
        maps: (L, H, W), first layer first, each in [0, 1] as `layer_maps` gives them; or a list of such maps (H, W),
            which under `jax.jit` need then not be written to memory as a stack.
        operator: one of `OPERATORS`.
        alpha: weight of what is already fused, in [0, 1]; only "add" and "top" use it. With 0, "add" is exactly "fem".
        normalize: min-max at the "end", after "each" step, or not at all ("none").

    Returns:
        (H, W), in [0, 1] unless `normalize="none"` is asked of maps outside that range; all zeros where the fusion is
        constant and is normalized.

    Raises:
        ValueError: unknown operator or normalization, no map, or an alpha outside [0, 1] (when it is a plain number).

    Source:
        The paper, section 2.3. It writes "add" as the sum of alpha (1 - alpha)^(l-1) S_l; the recursion, which it
        defines first, is what is computed. "mean" and "product" are not in the paper.

    Example:
        >>> maps = jnp.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        >>> fuse(maps, operator="add", alpha=0.25, normalize="none")
        Array([0.  , 0.75, 0.25], dtype=float32)
    """
    layers = list(maps)
    shapes = {layer.shape for layer in layers}
    if len(shapes) != 1 or () in shapes:
        raise ValueError(
            f"maps: expected at least one map (H, W), all of one size, got {len(layers)} of shapes {sorted(shapes)}"
        )
    if normalize not in ("end", "each", "none"):
        raise ValueError(f"normalize: expected 'end', 'each' or 'none', got {normalize!r}")
    if isinstance(alpha, int | float) and not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a weight in [0, 1], got {alpha}")
    _step(operator, alpha, 2)  # an unknown operator is refused for a single map too
    fused = layers[0]
    for depth, layer in enumerate(layers[1:], start=2):
        fused = _step(operator, alpha, depth)(fused, layer)
        if normalize == "each":
            fused = min_max(fused)
    return min_max(fused) if normalize == "end" else fused
