"""Whether a map depends on what the network has learned."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array, Float32, Shaped

from mlfem_jax.backbones import Backbone, forward_pass
from mlfem_jax.faithfulness.common import Image, Method, ready
from mlfem_jax.metrics import pcc
from mlfem_jax.parallel import images_at_once, over_chunks

Order: TypeAlias = Literal["cascading", "independent"]
"""Whether layers forget one after the other, or each alone."""

Source: TypeAlias = frozenset[int] | None
"""What a value in a trace was made from: parameters alone, by number; or, None, the image too."""


def parameter_layers(backbone: Backbone) -> tuple[str, ...]:
    """The layers that hold parameters, in the order in which the network uses them, the input's first.

    That order is read from the traced forward pass: a pytree of parameters has none. A layer is what shares a path but
    for its last name: the kernel and the bias of "layer1.0.conv1". Layers whose parameters meet the image in one and
    the same operation are one layer, under the first one's path; so is all that a hand-written kernel hides. Parameters
    that the forward never reads are left out.

    Args:
        backbone: the network.

    Returns:
        Paths, joined by dots; "params" for parameters that have none.

    Example:
        >>> def apply(params, x):
        ...     x = jax.nn.relu(x @ params["z_first"]["kernel"])
        ...     return x.mean((1, 2)) @ params["a_last"]["kernel"], {"first": x}
        >>> params = {"z_first": {"kernel": jnp.eye(3)}, "a_last": {"kernel": jnp.eye(3)}}
        >>> parameter_layers(from_function(apply, params, input_size=(4, 4)))
        ('z_first', 'a_last')
    """
    return tuple(_layers(backbone))


@functools.partial(jax.jit, static_argnames=("method", "order", "draws", "noise", "batch_size"))
def randomization_check(
    backbone: Backbone,
    key: Array,
    image: Image,
    *,
    method: Method,
    order: Order = "cascading",
    draws: int = 1,
    noise: float = 0.0,
    batch_size: int = 32,
) -> Float32[Array, " layers"]:
    """How much the map still looks the same while the network forgets, layer by layer from the head backward.

    Entry i is the rank correlation of the map with that of the network whose last i + 1 layers (of `parameter_layers`)
    have lost their training, or of which only layer i from the head has: each of their arrays is drawn anew from its
    own values, with replacement. A map that stays the same shows the image, not what the network learned. Under
    `jax.vmap` over images with one key, all see the same networks.

    Args:
        backbone: the network.
        key: of the draws.
        image: (H, W, 3) at the size of the network's input, uint8 or float in [0, 1].
        method: from a `Forward` over a batch to maps (N, H, W), such as `method("fem")`; compiled once for each.
        order: "cascading", the layers forget one after the other; "independent", each alone.
        draws: noisy copies of the image, whose maps are averaged before they are compared.
        noise: standard deviation of the noise, as a share of the image's range.
        batch_size: most copies in a forward pass; under `jax.vmap` times the number of images.

    Returns:
        (layers,) float32 from -1 to 1, head first, as `parameter_layers(backbone)[::-1]`; NaN where the map, or that of
        the network without those layers, is constant or not finite.

    Raises:
        ValueError: an unknown order, no draws, or negative noise.

    Source:
        Adebayo et al. 2018, "Sanity checks for saliency maps", arXiv:1810.03292, section 3: cascading and independent
        randomization, Spearman's rank correlation with ties at their mean rank. It draws weights as for a new network;
        drawing from the old ones keeps their distribution, needs no initializer, and keeps variances positive.
        Hedström et al. 2023, "Sanity checks revisited", arXiv:2401.06465, section 4.1 (smooth MPRT: maps averaged over
        50 noisy copies; `draws` and `noise`).

    Example:
        >>> backbone = from_function(lambda w, x: (x.sum((1, 2)) @ w, {"x": x}), jnp.eye(3), input_size=(4, 4))
        >>> image = jax.random.uniform(jax.random.key(0), (4, 4, 3))
        >>> edges = lambda forward: forward.inputs[..., 0]  # sees the image alone
        >>> print(randomization_check(backbone, jax.random.key(1), image, method=edges).round(3))
        [1.]
    """
    if order not in ("cascading", "independent"):
        raise ValueError(f"order: expected 'cascading' or 'independent', got {order!r}")
    if draws < 1 or noise < 0:
        raise ValueError(f"draws and noise: expected at least 1 and 0, got {draws} and {noise}")
    turns, redrawn = _forgetting(backbone, key)
    copies = _noisy(jax.random.fold_in(key, 1), ready(backbone, image), draws, noise)

    def map_without(turn):
        gone = {leaf: turn >= own if order == "cascading" else turn == own for leaf, own in turns.items()}
        network = _mixed(backbone, gone, redrawn)
        maps = over_chunks(
            lambda copies: method(forward_pass(network, copies)).astype(jnp.float32),
            copies,
            images_at_once(batch_size),
        )
        return maps.mean(axis=0)

    maps = jax.lax.map(map_without, jnp.arange(1 + max(turns.values(), default=0)))
    ranks = jax.vmap(rank_map)(maps)
    return jax.vmap(lambda other: pcc(ranks[0], other))(ranks[1:])


def forgetful(backbone: Backbone, key: Array) -> Backbone:
    """The network of which all layers have lost their training, as at the end of `randomization_check`."""
    turns, redrawn = _forgetting(backbone, key)
    return _mixed(backbone, dict.fromkeys(turns, jnp.array(True)), redrawn)


def _forgetting(backbone: Backbone, key: Array) -> tuple[dict[int, int], dict[int, Array]]:
    """Of each leaf that is read, by number: when its layer forgets, the head's first at 1; and what it is then."""
    layers, leaves = _layers(backbone), jax.tree.leaves(backbone.params)
    turns = {leaf: count for count, members in enumerate(reversed(layers.values()), start=1) for leaf in members}
    keys = jax.random.split(key, len(leaves))
    return turns, {leaf: _redrawn(keys[leaf], leaves[leaf]) for leaf in turns}


def _mixed(backbone: Backbone, gone: Mapping[int, Array], redrawn: Mapping[int, Array]) -> Backbone:
    leaves, structure = jax.tree.flatten(backbone.params)
    mixed = [jnp.where(gone[i], redrawn[i], leaf) if i in gone else leaf for i, leaf in enumerate(leaves)]
    return dataclasses.replace(backbone, params=jax.tree.unflatten(structure, mixed))


def _noisy(key: Array, pixels: Float32[Array, "*S C"], draws: int, noise: float) -> Float32[Array, "draws *S C"]:
    if noise == 0:
        return jnp.repeat(pixels[None], draws, axis=0)
    return pixels[None] + noise * jnp.ptp(pixels) * jax.random.normal(key, (draws, *pixels.shape), jnp.float32)


def _redrawn(key: Array, leaf: Shaped[Array, "*S"]) -> Shaped[Array, "*S"]:
    return leaf.ravel()[jax.random.randint(key, leaf.shape, 0, leaf.size, jnp.int32)]


def rank_map(importance: Float32[Array, "*S"]) -> Float32[Array, "*S"]:
    """The rank of each value, ties at their mean; NaN if one is not finite."""
    values = importance.ravel()
    ascending = jnp.sort(values)
    low, high = (jnp.searchsorted(ascending, values, side=side) for side in ("left", "right"))
    ranks = (low + high).astype(jnp.float32).reshape(importance.shape) / 2
    return jnp.where(jnp.isfinite(importance).all(), ranks, jnp.nan)


def _layers(backbone: Backbone) -> dict[str, list[int]]:
    """Path of each layer, in the order of use, to the numbers of its leaves."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), backbone.params)
    paths = [_layer_path(path) if path else "params" for path, _ in jax.tree.leaves_with_path(shapes)]
    floats = (leaf.dtype for leaf in jax.tree.leaves(shapes) if jnp.issubdtype(leaf.dtype, jnp.floating))
    inputs = jax.ShapeDtypeStruct((1, *backbone.input_shape), next(floats, jnp.float32))
    trace = jax.make_jaxpr(backbone.apply)(shapes, inputs)
    uses: list[frozenset[int]] = []
    _follow(trace.jaxpr, [*(frozenset([number]) for number in range(len(paths))), None], uses)
    layers: dict[str, list[int]] = {}
    layer_of: dict[str, str] = {}
    for leaves in uses:
        met = [paths[leaf] for leaf in sorted(leaves)]
        name = next((layer_of[path] for path in met if path in layer_of), met[0])
        for leaf, path in zip(sorted(leaves), met, strict=True):
            members = layers.setdefault(layer_of.setdefault(path, name), [])
            members += [] if leaf in members else [leaf]
    return layers


def _layer_path(path: tuple) -> str:
    """Where the layer of a leaf is: the leaf's path but for its last name."""
    if isinstance(path[-1], jax.tree_util.GetAttrKey):  # the value in an nnx.Variable
        path = path[:-1]
    return jax.tree_util.keystr(path[:-1] or path, simple=True, separator=".")


def _follow(jaxpr: core.Jaxpr, given: list[Source], uses: list[frozenset[int]]) -> list[Source]:
    """The sources of a jaxpr's results; notes in `uses` which parameters meet the image, operation by operation."""
    known: dict[core.Var, Source] = dict(zip(jaxpr.invars, given, strict=True))

    def source(atom):
        return frozenset() if isinstance(atom, core.Literal) else known.get(atom, frozenset())

    for equation in jaxpr.eqns:
        arguments = [source(atom) for atom in equation.invars]
        inner = _inner(equation)
        if inner is not None:
            results = _follow(inner, arguments[len(arguments) - len(inner.invars) :], uses)
        else:
            leaves = frozenset().union(*(argument for argument in arguments if argument is not None))
            meets_image = None in arguments
            if meets_image and leaves:
                uses.append(leaves)
            results = [None if meets_image else leaves] * len(equation.outvars)
        known.update(zip(equation.outvars, results, strict=True))
    return [source(atom) for atom in jaxpr.outvars]


def _inner(equation: core.JaxprEqn) -> core.Jaxpr | None:
    """What a call, a loop or the first branch of a choice runs, where its arguments are the equation's last ones."""
    for name in ("jaxpr", "call_jaxpr", "body_jaxpr", "branches"):
        inner = equation.params.get(name)
        inner = inner[0] if name == "branches" and inner else inner
        inner = getattr(inner, "jaxpr", inner)
        if (
            isinstance(inner, core.Jaxpr)
            and len(inner.invars) <= len(equation.invars)
            and len(inner.outvars) == len(equation.outvars)
        ):
            return inner
    return None
