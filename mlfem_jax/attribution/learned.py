"""MLFEM with the learned fusion: the FEM maps of all layers fused by a network that was trained on human gaze."""

from collections import OrderedDict

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mlfem_jax.attribution.base import Entry
from mlfem_jax.backbones import Forward, read_layers
from mlfem_jax.fusion import Reweighted, TrainedFusion, contributions, load_fusion, packaged_fusion, predict


def net_maps(
    forward: Forward,
    *,
    layers: tuple[str, ...] | None = None,
    architecture: str = "channels",
    weights: str | None = None,
) -> Float[Array, " N *S"]:
    """MLFEM fused by a trained network: where people would look, judged by the importance maps alone.

    The parameters are read while the batch is compiled and are constants of the compiled function.

    Args:
        forward: of the backbone that the network was trained for.
        layers: can only be those it was trained for, which are the default.
        architecture: of the packaged networks: "net", the paper's; "unet"; "channels", reweighted FEM and a U-Net; or
            "linear", reweighted FEM summed and blurred. Of several, the one trained nearest to the input's size.
        weights: a .safetensors file that `mlfem train fusion` wrote, in place of a packaged one.

    Returns:
        (N, H, W) in [0, 1]; all zeros where all maps of the layers are.

    Raises:
        ValueError: the network was trained for another backbone or other layers.

    Source:
        The paper, section 2.3.
    """
    trained = _trained(forward, layers, architecture, weights)
    shape = forward.size
    if not (trained.net.any_axes or forward.backbone.photos):
        raise ValueError(f"weights: expected a fusion of any axes, got {trained.net.architecture!r}, of photographs")
    read = {"layers": trained.layers, "ks": trained.ks, "signs": trained.signs}

    def fused(activations):
        size = tuple(-(-side // trained.net.shrink) for side in shape)
        stack = trained.net.read(trained.params, activations, size, **read)
        # From maps that show nothing it would predict where people look in any image.
        return predict(trained.net, trained.params, stack, shape) * stack.any().astype(stack.dtype)

    return jax.vmap(fused)(read_layers(forward, trained.layers))


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Reasons:
    """What a layer gave to a map of reweighted FEM.

    Attributes:
        map: its reweighted FEM map: the sum of what all its channels gave, over k and weight vectors.
        total: the sum of that map.
        channels: numbers of the channels that gave most, most first.
        parts: what each of these gave, w_c b_c.
    """

    map: Float[Array, "*N h w"]
    total: Float[Array, "*N"]
    channels: Int[Array, "*N most"]
    parts: Float[Array, "*N most h w"]


def net_reasons(
    forward: Forward, *, architecture: str = "channels", weights: str | None = None, most: int = 10
) -> OrderedDict[str, Reasons]:
    """Why a fusion of reweighted FEM drew its map: which layers and channels it came from.

    Args:
        forward: of the backbone that the network was trained for.
        architecture: see `net_maps`; "channels" or "linear".
        weights: see `net_maps`.
        most: how many channels of each layer.

    Returns:
        Of each layer what it and its channels gave. With "linear" the sum of the layers' maps, upsampled and blurred,
        is the map; with "channels" a U-Net lies between, and nothing behind it is shared out.

    Raises:
        ValueError: see `net_maps`; or the network reads no channels.
    """
    trained = _trained(forward, None, architecture, weights)
    net = trained.net
    if not isinstance(net, Reweighted):
        raise ValueError(
            f"architecture: expected a fusion that weighs channels, 'channels' or 'linear', got {net.architecture!r}"
        )

    def of_layer(activation: Array, weights: Array) -> Reasons:
        given = contributions(activation, weights, ks=trained.ks)
        _, channels = jax.lax.top_k(jnp.abs(given).sum(axis=(1, 2)), min(most, len(given)))
        summed = given.sum(axis=0)
        return Reasons(map=summed, total=summed.sum(), channels=channels, parts=given[channels])

    pairs = zip(read_layers(forward, trained.layers).items(), net.weights(trained.params), strict=True)
    return OrderedDict(
        (name, jax.vmap(lambda one, w=weights: of_layer(one, w))(activation)) for (name, activation), weights in pairs
    )


def _trained(forward: Forward, layers: tuple[str, ...] | None, architecture: str, weights: str | None) -> TrainedFusion:
    backbone = forward.backbone.name
    trained = load_fusion(
        weights if weights is not None else packaged_fusion(architecture, backbone, forward.photo_size)
    )
    _check(trained, backbone, (*forward.activations, *forward.backbone.attentions), layers)
    return trained


def _check(trained: TrainedFusion, backbone: str, there: tuple[str, ...], layers: tuple[str, ...] | None) -> None:
    if trained.backbone != backbone:
        raise ValueError(
            f"weights: expected a fusion trained for {backbone!r}, got one trained for {trained.backbone!r}"
        )
    # Layers that it does not read may be there: by default it takes its own.
    wanted = tuple(name for name in there if name in trained.layers) if layers is None else layers
    if wanted != trained.layers:
        raise ValueError(
            f"{'layers' if layers else 'backbone'}: expected the layers that this fusion was trained for, "
            f"{', '.join(trained.layers)}, got {', '.join(wanted)}"
        )


METHODS = {"net": Entry(net_maps, "activations", "MLFEM: fused by a network trained on human gaze")}
