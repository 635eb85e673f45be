"""The fusion networks by name, and what each of them reads where nothing else is said."""

import dataclasses
from typing import Any

from mlfem_jax.fusion.channel_nets import ChannelNet, ChannelSum, Reweighted
from mlfem_jax.fusion.inputs import MapRecipe, MaskRecipe
from mlfem_jax.fusion.network import FusionNet, PaperNet, UNet, WeightedSum

Kind = type[PaperNet] | type[UNet] | type[ChannelNet] | type[ChannelSum] | type[WeightedSum]
ARCHITECTURES: dict[str, Kind] = {
    net.architecture: net for net in (PaperNet, UNet, ChannelNet, ChannelSum, WeightedSum)
}
"""The fusion networks by name."""


def make_net(architecture: str, **fields: Any) -> FusionNet:
    """A fusion network by the name of its architecture.

    Args:
        architecture: one of `ARCHITECTURES`.
        **fields: of its class.

    Raises:
        ValueError: another name; a field that the architecture does not have, or a value that it does not take.

    Example:
        >>> make_net("net", channels=17)
        PaperNet(channels=17, shrink=1)
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    kind = ARCHITECTURES[architecture]
    there = [field.name for field in dataclasses.fields(kind)]
    for name in fields.keys() - set(there):
        raise ValueError(f"{name}: expected one of the fields of {architecture!r}, {', '.join(there)}, got {name!r}")
    return kind(**fields)


def reads_channels(architecture: str) -> bool:
    """Whether it reads the channels of a layer, and not its FEM map."""
    return issubclass(ARCHITECTURES[architecture], Reweighted)


def default_layers(architecture: str, layers: tuple[str, ...]) -> tuple[str, ...]:
    """The layers that an architecture reads where nothing else is said: all, or, where it reads channels, some.

    Those are every second of the last two thirds, and the last: what comes earlier has fine maps, costs most, and knows
    little of what people look at.

    Example:
        >>> default_layers("channels", tuple("abcdefgh"))
        ('c', 'e', 'g', 'h')
    """
    if not reads_channels(architecture):
        return layers
    return tuple(dict.fromkeys((*layers[len(layers) // 3 :: 2], layers[-1])))


def default_maps(
    architecture: str,
    layers: tuple[str, ...],
    ks: tuple[float, ...] | None = None,
    shrink: int | None = None,
    *,
    frame: tuple[int, int] = (224, 224),
) -> MapRecipe:
    """What an architecture reads of these layers where nothing else is said.

    "net": the paper's, k = 2 at full size. "weights": four values of k at full size. "unet": nine values of k at an
    eighth of the size. "channels", "linear": the strong positions of each channel, k = 1 and 2, whose maps are made at
    some 24x32 pixels: an eighth of 224x224, a sixteenth of 384x512.

    Example:
        >>> default_maps("net", ("first", "second"), shrink=4)
        MapRecipe(layers=('first', 'second'), ks=(2.0,), shrink=4)
    """
    net = ARCHITECTURES[architecture]
    if not reads_channels(architecture):
        return MapRecipe(layers, ks or net.ks, shrink or net.shrink)
    return MaskRecipe(layers, ks or net.ks, shrink or max(1, round((frame[0] * frame[1] / (24 * 32)) ** 0.5)))
