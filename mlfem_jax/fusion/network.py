"""The learned fusion: a small network from a stack of importance maps to the gaze density that people would give.

Two architectures. `PaperNet` is the paper's. `UNet` is ours: several k for each layer, a wider field, and a loss that
contains the score. Flax NNX stays in here; what leaves is `init` and the pure `apply` of ONE example.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from mlfem_jax.fusion.modules import PaperLayers, UNetLayers, WeightLayers
from mlfem_jax.fusion.stacks import map_stack
from mlfem_jax.importance import normalize
from mlfem_jax.upsampling import upsample

if TYPE_CHECKING:
    from chex import ArrayTree
else:
    ArrayTree = Any  # beartype, which reads annotations while the tests run, fails on this recursive alias

# Pixels of the photo's frame: about the sigma of OSIE's GFDMs at 224x224, so no finer peak can be asked for.
_BLUR = 6.0
_TINY = 1e-7  # probability below which a logarithm says no more: a uniform density on 56x56 has 3e-4


@dataclasses.dataclass(frozen=True)
class FusionNet(abc.ABC):
    """The shape of a fusion network: everything about it but its parameters.

    Attributes:
        architecture: its name in `ARCHITECTURES`.
        ks: values of k of the maps that it reads where nothing else is said.
        epochs: of its training where nothing else is said.
        channels: importance maps in the stack: layers times values of k.
        shrink: the maps are made at 1 / `shrink` of the input's resolution.
    """

    architecture: ClassVar[str]
    ks: ClassVar[tuple[float, ...]]
    epochs: ClassVar[int] = 24
    any_axes: ClassVar[bool] = False
    """Whether it takes maps of any number of axes, not of photographs alone."""

    channels: int
    shrink: int = 1

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the fields.
        """
        if min(self.channels, self.shrink) < 1:
            raise ValueError(f"channels and shrink: expected at least 1, got {self}")

    @property
    @abc.abstractmethod
    def stride(self) -> int:
        """Pixels of the photo's frame in a step of the output."""

    @abc.abstractmethod
    def layers(self, rngs: nnx.Rngs) -> nnx.Module:
        """The NNX module, freshly initialized: from (N, h, w, channels), and a key or None, to (N, h, w)."""

    @abc.abstractmethod
    def loss(self, prediction: Float[Array, "*s"], gfdm: Float[Array, "*s"]) -> Float[Array, ""]:
        """How far a prediction of `apply` is from a GFDM of the same size, which is not negative.

        Returns:
            A number not below 0; finite, and so is its gradient, also for a blank GFDM.
        """

    @property
    def reads(self) -> int:
        """Maps in the stack that `apply` takes."""
        return self.channels

    def read(
        self,
        params: ArrayTree,
        activations: Mapping[str, Any],
        shape: tuple[int, ...],
        *,
        layers: Sequence[str],
        ks: Sequence[float],
        signs: Sequence[str] = (),
    ) -> Float[Array, "C ..."]:
        """The stack that `apply` takes, from the activations of ONE example; see `map_stack`."""
        return map_stack(activations, shape, layers=layers, ks=ks, signs=signs)

    def stack(self, params: ArrayTree, given: Any, shape: tuple[int, ...]) -> Float[Array, "C ..."]:
        """The same from what the trainer keeps of one example: the stack itself, where no parameter decides it."""
        return given

    def thinned(self, params: ArrayTree, key: Key[Array, ""]) -> ArrayTree:
        """The parameters of one training step, those left out that its dropout blanks for the whole batch."""
        return params

    def init(self, key: Key[Array, ""]) -> ArrayTree:
        """Fresh parameters: a pytree of float32 arrays."""
        return nnx.to_pure_dict(nnx.state(self.layers(nnx.Rngs(key))))

    def apply(
        self, params: ArrayTree, maps: Float[Array, "C ..."], *, key: jax.Array | None = None
    ) -> Float[Array, "..."]:
        """The network's own output for one stack, at its own resolution.

        Args:
            params: from `init`, or trained.
            maps: (C, h, w), C = `reads`, from `read` or `stack`: layer by layer, for each layer every k. Any size; the
                network was trained on maps of the photo's frame over `shrink`.
            key: of the dropout in a training step; None, the default, is without dropout.

        Returns:
            `PaperNet`: (h / 4, w / 4), rounded up, on the scale of a GFDM whose peak is 1. `UNet`: (h, w), a density
            that sums to 1.

        Raises:
            ValueError: `maps` has not `reads` maps.
        """
        if (maps.ndim != 3 and not self.any_axes) or maps.shape[0] != self.reads:
            axes = "*S" if self.any_axes else "H, W"
            raise ValueError(f"maps: expected a stack ({self.reads}, {axes}), got shape {maps.shape}")
        return nnx.merge(_graph(self), params)(jnp.moveaxis(maps, 0, -1)[None], key)[0]


@dataclasses.dataclass(frozen=True)
class PaperNet(FusionNet):
    """The paper's NET over one map of each of L layers.

    Three 3x3 convolutions, each doubling the depth, ReLU behind each; a 2x2 mean pooling behind the first and the
    second; and a weighted sum to one map of a quarter of the resolution. The paper gives the three convolutions, the
    factors 4 and 8 and the weighted sum; the activation, the pooling's kind and place, and the padding (edges
    repeated) are ours.

    Attributes:
        channels: number of importance maps L.
        shrink: the maps are made at 1 / `shrink` of the input's resolution, to be fast; 1 is the paper's.

    Source:
        The paper, section 2.3.

    Example:
        >>> net = PaperNet(2)
        >>> params = net.init(jax.random.key(0))
        >>> sum(leaf.size for leaf in jax.tree.leaves(params))
        1557
        >>> net.apply(params, jnp.zeros((2, 32, 48))).shape
        (8, 12)
    """

    architecture: ClassVar[str] = "net"
    ks: ClassVar[tuple[float, ...]] = (2.0,)

    @property
    def stride(self) -> int:
        """Two poolings of 2x2 behind maps that are shrunk already."""
        return self.shrink * 4

    def layers(self, rngs: nnx.Rngs) -> nnx.Module:
        """See `FusionNet`."""
        return PaperLayers(self.channels, rngs)

    def loss(self, prediction: Float[Array, "h w"], gfdm: Float[Array, "h w"]) -> Float[Array, ""]:
        """The mean squared error against the GFDM scaled to a peak of 1; see `FusionNet`.

        It is the paper's Euclidean loss; the paper does not say how the GFDM is scaled, and one that sums to 1 has
        values near 1e-4, whose gradients Adam's epsilon swallows.
        """
        return jnp.mean(jnp.square(prediction - gfdm / jnp.maximum(gfdm.max(), _TINY)))


@dataclasses.dataclass(frozen=True)
class DensityNet(FusionNet):
    """A fusion network whose result is a density at the resolution of its maps; fields as `FusionNet`."""

    @property
    def stride(self) -> int:
        """That of its maps."""
        return self.shrink

    def loss(self, prediction: Float[Array, "*s"], gfdm: Float[Array, "*s"]) -> Float[Array, ""]:
        """Kullback-Leibler divergence of the prediction from the GFDM plus 1 - PCC; see `FusionNet`.

        Example:
            >>> gfdm = jnp.array([[0.25, 0.75]])
            >>> print(UNet(1).loss(gfdm, gfdm).round(3))
            0.0
        """
        gfdm = gfdm / jnp.maximum(gfdm.sum(), _TINY)
        divergence = jnp.sum(gfdm * (jnp.log(gfdm + _TINY) - jnp.log(prediction + _TINY)))
        return jnp.maximum(divergence, 0.0) + 1.0 - _correlation(prediction, gfdm)


@dataclasses.dataclass(frozen=True)
class UNet(DensityNet):
    """A U-Net over several k of each layer, which gives a density.

    Attributes:
        channels: importance maps in the stack: layers times values of k.
        shrink: the maps are made at 1 / `shrink` of the input's resolution.
        width: channels of the finest level.
        levels: each of half the resolution of the one before and of `width` channels more.
        position: it also reads the squared distance from the center along y and x. That lets it learn where people
            look in any photograph: knowledge about people, not about the network that is explained.
        dropout: share of the channels that are blanked in a training step.

    Source:
        The shape of Ronneberger et al., U-Net (2015), doi:10.1007/978-3-319-24574-4_28. The values of k are chosen on
        training images of OSIE, where fewer, more, and leaving out the first layers gave less.

    Example:
        >>> net = UNet(2)
        >>> net.apply(net.init(jax.random.key(0)), jnp.zeros((2, 32, 48))).shape
        (32, 48)
    """

    architecture: ClassVar[str] = "unet"
    ks: ClassVar[tuple[float, ...]] = (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)

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
        super().__post_init__()
        check_unet(self.width, self.levels, self.dropout)

    def layers(self, rngs: nnx.Rngs) -> nnx.Module:
        """See `FusionNet`."""
        shape = {"width": self.width, "levels": self.levels, "position": self.position, "dropout": self.dropout}
        return UNetLayers(self.channels, **shape, blur=_BLUR / self.shrink, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class WeightedSum(DensityNet):
    """A sum of the maps whose weights are learned, none below 0: of photographs, signals, films and volumes.

    What `mean` and `add` choose by hand. It has a number for each map, so it can be trained on few recordings.

    Attributes:
        channels: importance maps in the stack: layers times values of k.
        shrink: the maps are made at 1 / `shrink` of the input's resolution.

    Example:
        >>> net = WeightedSum(2)
        >>> net.apply(net.init(jax.random.key(0)), jnp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])).tolist()
        [0.25, 0.25, 0.5]
    """

    architecture: ClassVar[str] = "weights"
    ks: ClassVar[tuple[float, ...]] = (0.0, 1.0, 2.0, 3.0)
    any_axes: ClassVar[bool] = True

    def layers(self, rngs: nnx.Rngs) -> nnx.Module:
        """See `FusionNet`."""
        return WeightLayers(self.channels)


def check_unet(width: int, levels: int, dropout: float) -> None:
    """Refuses the fields that no U-Net can have.

    Raises:
        ValueError: names the field.
    """
    if min(width, levels) < 1:
        raise ValueError(f"width and levels: expected at least 1, got {width} and {levels}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: expected a share in [0, 1), got {dropout}")


def predict(
    net: FusionNet, params: ArrayTree, maps: Float[Array, "C ..."], shape: tuple[int, ...]
) -> Float[Array, "*S"]:
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
        >>> net = PaperNet(2)
        >>> predict(net, net.init(jax.random.key(0)), jnp.ones((2, 32, 48)), (32, 48)).shape
        (32, 48)
    """
    return normalize(upsample(jnp.maximum(net.apply(params, maps), 0.0), shape))


def _correlation(a: Float[Array, "*s"], b: Float[Array, "*s"]) -> Float[Array, ""]:
    """Pearson's correlation, 0 for a constant map: a metric may be NaN there, a loss may not."""
    a, b = (a - a.mean()) * a.size, (b - b.mean()) * b.size
    return jnp.mean(a * b) / jnp.sqrt(jnp.mean(a * a) * jnp.mean(b * b) + _TINY)


@functools.cache
def _graph(net: FusionNet) -> nnx.GraphDef:
    return nnx.graphdef(nnx.eval_shape(lambda: net.layers(nnx.Rngs(0))))
