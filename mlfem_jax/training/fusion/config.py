"""What the training of a learned fusion is asked for, and the network that this makes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from mlfem_jax.backbones import Backbone, forward_pass, read_layers, select_layers
from mlfem_jax.fusion import FusionNet, MapRecipe, default_layers, default_maps, make_net, reads_channels
from mlfem_jax.gaze import check_sigma
from mlfem_jax.photos import check_frame
from mlfem_jax.training.fusion.step import Recipe
from mlfem_jax.training.task import RunConfig


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """The training of a learned fusion.

    Attributes:
        also: more prepared data sets to train on, each with its own sigma. `split` is of the first data set.
        weights: a file of the backbone's weights, or "random". Default: the packaged ones.
        architecture: "unet"; "net", the paper's; "channels", FEM with learned channel weights and a U-Net; or "linear",
            the same summed, without a network behind the weights; or "weights", a weighted sum of the maps: the one
            for recordings.
        ks: values of k; default those of the architecture, nine for "unet", 2 for "net", 1 and 2 for the others.
        layers: names of the layers. Default: all; for "channels" and "linear" some of the later ones. Of a transformer
            also of its blocks' attention ("blocks.11.attention"), whose heads are the channels.
        shrink: the maps are made at 1 / `shrink` of the resolution. Default: 8 for "unet"; 1, as the paper, for "net";
            for the others what gives maps of some 24x32 pixels.
        vectors: weight vectors of each layer and k of "channels"; default 4.
        signed: weights of channels may be negative. Default: those of "linear" may.
        position: "unet" also reads the distance from the center.
        frame: height and width whose number of pixels each photograph gets, in its own proportions, so that none is
            squeezed. Default: the backbone's input size, whatever the photograph's proportions.
        maps: "cached", computed once into a file; or "computed" at every step (no disk, a forward pass for each image).
        cache: the folder of that file. Default: `maps` in each data set's own.
        sigma_px: of the GFDMs of the first data set, in pixels of its photographs. Default: the data set's own.
        recipe: how to train.
    """

    free: ClassVar[tuple[str, ...]] = (*RunConfig.free, "cache")

    also: tuple[Path, ...] = ()
    weights: str | Path | None = None
    architecture: Literal["unet", "net", "channels", "linear", "weights"] = "unet"
    ks: tuple[float, ...] | None = None
    layers: tuple[str, ...] | None = None
    shrink: int | None = None
    vectors: int | None = None
    signed: bool | None = None
    position: bool = False
    frame: tuple[int, int] | None = None
    maps: Literal["cached", "computed"] = "cached"
    cache: Path | None = None
    sigma_px: float | None = None
    recipe: Recipe = dataclasses.field(default_factory=Recipe)

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the field.
        """
        super().__post_init__()
        if self.sigma_px is not None:
            check_sigma(self.sigma_px)
        if self.shrink is not None and self.shrink < 1:
            raise ValueError(f"shrink: expected at least 1, got {self.shrink}")
        if self.frame is not None:
            check_frame(self.frame)


def fusion_shape(config: Config, backbone: Backbone) -> tuple[FusionNet, MapRecipe]:
    """The network and what it reads, with the architecture's defaults filled in."""
    chosen = default_layers(config.architecture, backbone.layers)
    layers = chosen if config.layers is None else select_layers((*backbone.layers, *backbone.attentions), config.layers)
    maps = default_maps(
        config.architecture,
        layers,
        config.ks,
        config.shrink,
        frame=config.frame or (backbone.photo_size if backbone.photos else (1, 1)),  # which only photographs have
    )
    fields: dict[str, Any] = {"position": True} if config.position else {}  # which other architectures refuse
    fields |= {} if config.signed is None else {"signed": config.signed}
    fields |= {} if config.vectors is None else {"vectors": config.vectors}
    if reads_channels(config.architecture):
        fields["depths"] = layer_depths(backbone, layers)
    return make_net(config.architecture, channels=maps.channels, shrink=maps.shrink, **fields), maps


def layer_depths(backbone: Backbone, layers: Sequence[str]) -> tuple[int, ...]:
    """The number of channels of each layer."""
    image = jax.ShapeDtypeStruct((1, *backbone.input_size, 3), np.uint8)
    shapes = jax.eval_shape(lambda backbone, image: read_layers(forward_pass(backbone, image), layers), backbone, image)
    return tuple(shapes[name].shape[-1] for name in layers)
