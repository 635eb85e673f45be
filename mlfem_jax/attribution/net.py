"""MLFEM with the learned fusion: the FEM maps of all layers fused by a network that was trained on human gaze."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Forward, Method
from mlfem_jax.fem import fem, normalize
from mlfem_jax.fusion_net import predict
from mlfem_jax.fusion_weights import TrainedFusion, load_fusion, packaged_fusion


def net_maps(
    forward: Forward, *, layers: tuple[str, ...] | None = None, architecture: str = "unet", weights: str | None = None
) -> Float[Array, "N H W"]:
    """MLFEM fused by a trained network: where people would look, judged by the importance maps alone.

    The parameters are read while the batch is compiled and are constants of the compiled function.

    Args:
        forward: of the backbone that the network was trained for.
        layers: can only be those it was trained for, which are the default.
        architecture: of the packaged networks: "net", the paper's, or "unet", the better one.
        weights: a .safetensors file that `train.fusion` wrote, in place of a packaged one.

    Returns:
        (N, H, W) in [0, 1]; all zeros where all maps of the layers are.

    Raises:
        ValueError: the network was trained for another backbone or other layers.

    Source:
        The paper, section 2.3.
    """
    backbone = forward.backbone.name
    trained = load_fusion(weights if weights is not None else packaged_fusion(architecture, backbone))
    _check(trained, backbone, tuple(forward.activations), layers)
    _, height, width, _ = forward.inputs.shape

    def fused(activations):
        size = -(-height // trained.net.shrink), -(-width // trained.net.shrink)
        stack = map_stack(activations, size, layers=trained.layers, ks=trained.ks)
        # From maps that show nothing it would predict where people look in any image.
        return predict(trained.net, trained.params, stack, (height, width)) * stack.any().astype(stack.dtype)

    return jax.vmap(fused)(forward.activations)


def map_stack(activations: Any, shape: tuple[int, int], *, layers: Sequence[str], ks: Sequence[float]) -> Array:
    """The stack of one example that a fusion network reads: FEM of every layer and k, resized and put in [0, 1].

    Where a map is made smaller, each pixel is a weighted mean of what it covers (a triangle twice as wide).

    Args:
        activations: layer name to activation (h, w, C) of ONE example.
        shape: of the maps: that of the backbone's input over the `shrink` of the network, rounded up.
        layers: names, first layer first.
        ks: values of k.

    Returns:
        (layers times ks, *shape) float32 in [0, 1]: layer by layer, for each layer every k; a constant map is 0.
    """
    maps = (fem(activations[name], k=k) for name in layers for k in ks)
    return jnp.stack([normalize(jax.image.resize(map, shape, "linear")) for map in maps])


def _check(trained: TrainedFusion, backbone: str, there: tuple[str, ...], layers: tuple[str, ...] | None) -> None:
    if trained.backbone != backbone:
        raise ValueError(f"method 'net': this fusion was trained for {trained.backbone!r}, not for {backbone!r}")
    wanted = there if layers is None else layers
    if wanted != trained.layers:
        raise ValueError(
            f"method 'net': this fusion was trained for the layers {', '.join(trained.layers)}; "
            f"{'asked for' if layers else 'the backbone has'} {', '.join(wanted)}"
        )


METHODS = {"net": Method(net_maps, "activations", "MLFEM: fused by a network trained on human gaze")}
