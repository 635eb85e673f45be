"""MLFEM with the learned fusion: the FEM maps of all layers fused by a network that was trained on human gaze."""

import jax
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry
from mlfem_jax.backbones import Forward
from mlfem_jax.fusion import TrainedFusion, load_fusion, map_stack, packaged_fusion, predict


def net_maps(
    forward: Forward, *, layers: tuple[str, ...] | None = None, architecture: str = "unet", weights: str | None = None
) -> Float[Array, "N H W"]:
    """MLFEM fused by a trained network: where people would look, judged by the importance maps alone.

    The parameters are read while the batch is compiled and are constants of the compiled function.

    Args:
        forward: of the backbone that the network was trained for.
        layers: can only be those it was trained for, which are the default.
        architecture: of the packaged networks: "net", the paper's, or "unet", the better one.
        weights: a .safetensors file that `mlfem train fusion` wrote, in place of a packaged one.

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


def _check(trained: TrainedFusion, backbone: str, there: tuple[str, ...], layers: tuple[str, ...] | None) -> None:
    if trained.backbone != backbone:
        raise ValueError(
            f"weights: expected a fusion trained for {backbone!r}, got one trained for {trained.backbone!r}"
        )
    wanted = there if layers is None else layers
    if wanted != trained.layers:
        raise ValueError(
            f"{'layers' if layers else 'backbone'}: expected the layers that this fusion was trained for, "
            f"{', '.join(trained.layers)}, got {', '.join(wanted)}"
        )


METHODS = {"net": Entry(net_maps, "activations", "MLFEM: fused by a network trained on human gaze")}
