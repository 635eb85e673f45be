"""Fusion networks over reweighted FEM: which channels people look at is learned, then how their maps make one."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from mlfem_jax.fusion.channels import channel_maps, packed_maps
from mlfem_jax.fusion.modules import SumLayers, UNetLayers
from mlfem_jax.fusion.network import ArrayTree, DensityNet, check_unet

# Pixels of the maps. At a sixteenth of 384x512 both are below the sigma of OSIE's GFDMs; what has no network behind it
# starts from more.
_BLUR, _BLUR_OF_SUM = 0.64, 1.3


@dataclasses.dataclass(frozen=True)
class Reweighted(DensityNet):
    """A fusion that reads FEM maps with learned channel weights, see `channel_maps`.

    The weights are squares of the parameters, so that no channel speaks against the positions where it is strong; or
    the parameters themselves where `signed`.

    Attributes:
        channels: layers times values of k.
        shrink: the maps are made at 1 / `shrink` of the input's resolution.
        depths: number of channels of each layer.
        vectors: weight vectors of each layer and k, each of which gives a map.
        signed: weights may be negative.
        thinning: share of the channels that a training step leaves out, the others raised to keep the sum.

    Source:
        FEM with learned weights is ours. The form was found on training images of OSIE's first fold.
    """

    ks: ClassVar[tuple[float, ...]] = (1.0, 2.0)
    epochs: ClassVar[int] = 8

    shrink: int = 16
    depths: tuple[int, ...] = ()
    vectors: int = 1
    signed: bool = False
    thinning: float = 0.2

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the field.
        """
        super().__post_init__()
        if not self.depths or min(self.depths) < 1 or self.channels % len(self.depths):
            raise ValueError(
                f"depths: expected the channels of each layer, as many layers as divide {self.channels}, "
                f"got {self.depths}"
            )
        if self.vectors < 1:
            raise ValueError(f"vectors: expected at least 1, got {self.vectors}")
        if not 0 <= self.thinning < 1:
            raise ValueError(f"thinning: expected a share in [0, 1), got {self.thinning}")

    @property
    def reads(self) -> int:
        """A map for each layer, k and weight vector."""
        return self.channels * self.vectors

    def init(self, key: Key[Array, ""]) -> ArrayTree:
        """Fresh parameters; the first weights are positive, of the scale that He's rule gives."""
        *keys, for_net = jax.random.split(key, len(self.depths) + 1)
        count, weights = self.channels // len(self.depths), {}
        for index, depth in enumerate(self.depths):
            drawn = jnp.abs(jax.random.normal(keys[index], (count, self.vectors, depth))) * (0.5 / depth) ** 0.5
            weights[str(index)] = drawn if self.signed else jnp.sqrt(drawn)
        return {"weights": weights, "net": super().init(for_net)}

    def weights(self, params: Any) -> list[Float[Array, "K m C"]]:
        """The weights of each layer."""
        roots = [params["weights"][str(index)] for index in range(len(self.depths))]
        return [jnp.asarray(root) if self.signed else jnp.square(root) for root in roots]

    def thinned(self, params: Any, key: Key[Array, ""]) -> ArrayTree:
        """See `FusionNet`."""
        if self.thinning == 0:
            return params
        kept = {}
        for index in range(len(self.depths)):
            root = params["weights"][str(index)]
            channels = (root.shape[0], 1, root.shape[2])
            stays = jax.random.bernoulli(jax.random.fold_in(key, index), 1 - self.thinning, channels)
            raised = root / (1 - self.thinning) ** (1.0 if self.signed else 0.5)
            kept[str(index)] = jnp.where(stays, raised, 0.0)
        return {**params, "weights": kept}

    def stack(self, params: Any, given: Any, shape: tuple[int, ...]) -> Float[Array, "C _h _w"]:
        """See `FusionNet`; `given` has the packed strong positions of each layer, first layer first."""
        pairs = zip(given, self.weights(params), strict=True)
        return _together([packed_maps(packed, weights) for packed, weights in pairs], shape)

    def read(
        self,
        params: Any,
        activations: Mapping[str, Any],
        shape: tuple[int, ...],
        *,
        layers: Sequence[str],
        ks: Sequence[float],
        signs: Sequence[str] = (),
    ) -> Float[Array, "C _h _w"]:
        """See `FusionNet`: the maps straight from the activations, whose strong positions are above the mean."""
        pairs = zip(layers, self.weights(params), strict=True)
        return _together([channel_maps(activations[name], values, ks=ks) for name, values in pairs], shape)

    def apply(self, params: Any, maps: Float[Array, "C _h _w"], *, key: jax.Array | None = None) -> Float[Array, "h w"]:
        """See `FusionNet`; a density that sums to 1, or blank where the sum of the maps is."""
        return super().apply(params["net"], maps, key=key)


@dataclasses.dataclass(frozen=True)
class ChannelNet(Reweighted):
    """Several reweighted FEM maps of each layer and k, and a U-Net from these to a density.

    Attributes:
        channels: see `Reweighted`.
        shrink: see `Reweighted`.
        depths: see `Reweighted`.
        vectors: see `Reweighted`.
        signed: see `Reweighted`.
        thinning: see `Reweighted`.
        width: see `UNet`.
        levels: see `UNet`.
        dropout: see `UNet`.

    Example:
        >>> net = ChannelNet(2, depths=(5, 7))
        >>> net.init(jax.random.key(0))["weights"]["1"].shape
        (1, 4, 7)
    """

    architecture: ClassVar[str] = "channels"

    vectors: int = 4
    width: int = 16
    levels: int = 3
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
        shape = {"width": self.width, "levels": self.levels, "position": False, "dropout": self.dropout}
        return UNetLayers(self.reads, **shape, blur=_BLUR, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class ChannelSum(Reweighted):
    """The fully additive explanation: reweighted FEM maps summed over layers, channels and k, blurred once.

    There is no network behind the weights: S = blur(max(0, sum over layers l, k and channels c of w_lkc b_lkc)). So
    each channel's share of the sum is exact (`contributions`). Its weights may be negative: with none that are, the
    many weak channels lie under every map, and on OSIE it stays far behind.

    Attributes:
        channels: see `Reweighted`.
        shrink: see `Reweighted`.
        depths: see `Reweighted`.
        vectors: see `Reweighted`.
        signed: see `Reweighted`.
        thinning: see `Reweighted`.

    Example:
        >>> net = ChannelSum(4, depths=(5, 7))
        >>> net.apply(net.init(jax.random.key(0)), jnp.ones((4, 6, 8))).shape
        (6, 8)
    """

    architecture: ClassVar[str] = "linear"

    signed: bool = True

    def layers(self, rngs: nnx.Rngs) -> nnx.Module:
        """See `FusionNet`."""
        return SumLayers(_BLUR_OF_SUM)


def _together(maps: list[Float[Array, "m _h _w"]], shape: tuple[int, ...]) -> Float[Array, "C H W"]:
    return jnp.concatenate([jax.image.resize(each, (len(each), *shape), "linear") for each in maps])
