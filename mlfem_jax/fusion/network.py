"""The learned fusion: a small network from a stack of importance maps to the gaze density that people would give.

Two architectures. "net" is the paper's. "unet" is ours: several k for each layer, a wider field, and a loss that
contains the score. Flax NNX stays in here; what leaves is `init` and the pure `apply` of ONE example.
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from mlfem_jax.fusion.modules import PaperNet, UNet
from mlfem_jax.importance import normalize, upsample

Params = Any

_BLUR = (
    6.0  # pixels of the photo's frame: about the sigma of OSIE's GFDMs at 224x224, so no finer peak can be asked for
)
_TINY = 1e-7  # probability below which a logarithm says no more: a uniform density on 56x56 has 3e-4


@dataclasses.dataclass(frozen=True)
class FusionNet:
    """The shape of a fusion network: everything about it but its parameters.

    Attributes:
        channels: importance maps in the stack: layers times values of k.
        architecture: "net", the paper's; or "unet".
        shrink: the maps are made at 1 / `shrink` of the input's resolution; the paper's NET has 1.
        width: channels of the U-Net's finest level.
        levels: of the U-Net, each of half the resolution of the one before and of `width` channels more.
        position: the U-Net also reads the squared distance from the centre along y and x. That lets it learn where
            people look in any photograph: knowledge about people, not about the network that is explained.
        dropout: share of the U-Net's channels that are blanked in a training step.
    """

    channels: int
    architecture: Literal["net", "unet"] = "unet"
    shrink: int = 8
    width: int = 16
    levels: int = 3
    position: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the field.
        """
        if min(self.channels, self.shrink, self.width, self.levels) < 1:
            raise ValueError(f"channels, shrink, width and levels: expected at least 1, got {self}")
        if self.architecture not in ("net", "unet"):
            raise ValueError(f"architecture: expected 'net' or 'unet', got {self.architecture!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a share in [0, 1), got {self.dropout}")
        if self.position and self.architecture == "net":
            raise ValueError("position: the paper's NET has no such input, only 'unet' has")

    @property
    def stride(self) -> int:
        """Pixels of the photo's frame in a step of the output."""
        return self.shrink * (4 if self.architecture == "net" else 1)


def paper_net(layers: int, *, shrink: int = 1) -> FusionNet:
    """The paper's NET over one map of each of L layers.

    Three 3x3 convolutions, each doubling the depth, ReLU behind each; a 2x2 mean pooling behind the first and the
    second; and a weighted sum to one map of a quarter of the resolution. The paper gives the three convolutions, the
    factors 4 and 8 and the weighted sum; the activation, the pooling's kind and place, and the padding (edges
    repeated) are ours.

    Args:
        layers: number of importance maps L.
        shrink: the maps are made at 1 / `shrink` of the input's resolution, to be fast; 1 is the paper's.

    Example:
        >>> paper_net(17).architecture
        'net'
    """
    return FusionNet(channels=layers, architecture="net", shrink=shrink)


def init(net: FusionNet, key: Key[Array, ""]) -> Params:
    """Fresh parameters: a pytree of float32 arrays.

    Example:
        >>> params = init(paper_net(2), jax.random.key(0))
        >>> sum(leaf.size for leaf in jax.tree.leaves(params))
        1557
    """
    return nnx.to_pure_dict(nnx.state(_module(net, nnx.Rngs(key))))


def apply(
    net: FusionNet, params: Params, maps: Float[Array, "C _h _w"], *, key: jax.Array | None = None
) -> Float[Array, "h w"]:
    """The network's own output for one stack, at its own resolution.

    Args:
        net: the shape.
        params: from `init`, or trained.
        maps: (C, h, w) in [0, 1], C = `net.channels`: layer by layer, for each layer every k. Any size; the network
            was trained on maps of the photo's frame over `net.shrink` (`attribution.net.map_stack`).
        key: of the dropout in a training step; None, the default, is without dropout.

    Returns:
        "net": (h / 4, w / 4), rounded up, on the scale of a GFDM whose peak is 1. "unet": (h, w), a density that sums
        to 1.

    Raises:
        ValueError: `maps` has not `net.channels` maps.

    Source:
        "net": the paper, section 2.3. "unet": the shape of Ronneberger et al., U-Net (2015),
        doi:10.1007/978-3-319-24574-4_28.

    Example:
        >>> net = paper_net(2)
        >>> apply(net, init(net, jax.random.key(0)), jnp.zeros((2, 32, 48))).shape
        (8, 12)
    """
    if maps.ndim != 3 or maps.shape[0] != net.channels:
        raise ValueError(f"maps: expected a stack ({net.channels}, H, W), got shape {maps.shape}")
    return nnx.merge(_graph(net), params)(jnp.moveaxis(maps, 0, -1)[None], key)[0]


def predict(
    net: FusionNet, params: Params, maps: Float[Array, "C _h _w"], shape: tuple[int, int]
) -> Float[Array, "H W"]:
    """The fused map in [0, 1]: `apply`, `upsample`, `normalize`.

    The weighted sum of "net" can fall below 0, which a density cannot: such values count as 0. Else the deepest dip
    would lift the whole background, and with it SIM would drop.

    Args:
        net: the shape.
        params: from `init`, or trained.
        maps: as for `apply`.
        shape: the size wanted.

    Returns:
        `shape` float32 in [0, 1]; all zeros where the network sees nothing.

    Raises:
        ValueError: as `apply`.

    Example:
        >>> net = paper_net(2)
        >>> predict(net, init(net, jax.random.key(0)), jnp.ones((2, 32, 48)), (32, 48)).shape
        (32, 48)
    """
    return normalize(upsample(jnp.maximum(apply(net, params, maps), 0.0), shape))


def loss(net: FusionNet, prediction: Float[Array, "h w"], gfdm: Float[Array, "h w"]) -> Float[Array, ""]:
    """How far a prediction is from a GFDM of the same size.

    "net": the mean squared error against the GFDM scaled to a peak of 1 (the paper's Euclidean loss; it does not say
    how the GFDM is scaled, and one that sums to 1 has values near 1e-4, whose gradients Adam's epsilon swallows).
    "unet": Kullback-Leibler divergence of the prediction from the GFDM plus 1 - PCC.

    Args:
        net: which loss.
        prediction: of `apply`.
        gfdm: not negative.

    Returns:
        A number not below 0; finite, and so is its gradient, also for a blank GFDM.

    Example:
        >>> gfdm = jnp.array([[0.25, 0.75]])
        >>> print(loss(FusionNet(1), gfdm, gfdm).round(3))
        0.0
    """
    if net.architecture == "net":
        return jnp.mean(jnp.square(prediction - gfdm / jnp.maximum(gfdm.max(), _TINY)))
    gfdm = gfdm / jnp.maximum(gfdm.sum(), _TINY)
    divergence = jnp.sum(gfdm * (jnp.log(gfdm + _TINY) - jnp.log(prediction + _TINY)))
    return jnp.maximum(divergence, 0.0) + 1.0 - _correlation(prediction, gfdm)


def _correlation(a: Float[Array, "h w"], b: Float[Array, "h w"]) -> Float[Array, ""]:
    """Pearson's correlation, 0 for a constant map: a metric may be NaN there, a loss may not."""
    a, b = (a - a.mean()) * a.size, (b - b.mean()) * b.size
    return jnp.mean(a * b) / jnp.sqrt(jnp.mean(a * a) * jnp.mean(b * b) + _TINY)


def _module(net: FusionNet, rngs: nnx.Rngs) -> nnx.Module:
    if net.architecture == "net":
        return PaperNet(net.channels, rngs)
    return UNet(
        net.channels,
        width=net.width,
        levels=net.levels,
        position=net.position,
        dropout=net.dropout,
        blur=_BLUR / net.shrink,
        rngs=rngs,
    )


@functools.cache
def _graph(net: FusionNet) -> nnx.GraphDef:
    return nnx.graphdef(nnx.eval_shape(lambda: _module(net, nnx.Rngs(0))))
