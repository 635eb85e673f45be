"""The same work by PyTorch, for `--compare`: by hand with hooks, by pytorch-grad-cam, by captum.

All of them run on batches of the same shape, in float32, channels last, inputs preprocessed and on the device; that
favors them, since ours starts from uint8. Their maps are those of all layers at the input's size, averaged or added.
Needs torch, torchvision, grad-cam and captum, and efficientnet-lite-pytorch for EfficientNet-Lite0.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import FEM, GradCAM

from eval.benchmarks.throughput.ours import Call
from mlfem_jax.backbones import Backbone

K, ALPHA = 2.0, 0.9


def peer_calls(backbone: Backbone, batch_size: int) -> dict[str, Call]:
    """What is timed of the peers on one batch.

    Args:
        backbone: its name and input size are taken.
        batch_size: images in a batch.
    """
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() != "cpu" else "cpu"
    model, layers = _network(backbone.name)
    model = model.eval().to(device, memory_format=torch.channels_last)
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.random((batch_size, 3, *backbone.input_size), dtype=np.float32))
    inputs = inputs.to(device).contiguous(memory_format=torch.channels_last)
    few = inputs if device == "cuda" else inputs[:4]  # a CPU gains nothing from more, and captum takes seconds an image
    runs = {
        "PyTorch: bare forward": functools.partial(_bare, model, inputs),
        "PyTorch by hand: FEM of all layers, added": functools.partial(_hooked, model, layers, inputs),
        "grad-cam: FEM of all layers": functools.partial(_grad_cam, FEM, model, layers, inputs),
        "grad-cam: GradCAM of all layers": functools.partial(_grad_cam, GradCAM, model, layers, inputs),
    }
    calls = {
        what: Call(functools.partial(_finished, run, device), batch_size, batch_size) for what, run in runs.items()
    }
    captum = functools.partial(_finished, functools.partial(_captum, model, layers, few), device)
    return calls | {f"captum: LayerGradCam of all layers, {len(few)} at once": Call(captum, len(few), len(few))}


def _finished(run: Callable[[], Any], device: str) -> Any:
    result = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return result


def _network(name: str) -> tuple[torch.nn.Module, list[torch.nn.Module]]:
    """The network with random weights, and the modules whose outputs are our layers, but for a last ReLU6."""
    if name == "efficientnet_lite0":
        from efficientnet_lite_pytorch import EfficientNet

        model = EfficientNet.from_name("efficientnet-lite0")
        return model, [block._bn1 for block in model._blocks] + [model._bn1]
    import torchvision

    model = torchvision.models.get_model(name, weights=None)
    if not name.startswith("resnet"):
        raise ValueError(f"--compare: expected efficientnet_lite0 or a ResNet, got {name!r}")
    return model, [block for stage in range(1, 5) for block in getattr(model, f"layer{stage}")]


@torch.inference_mode()
def _bare(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return model(inputs)


@torch.inference_mode()
def _hooked(model: torch.nn.Module, layers: Sequence[torch.nn.Module], inputs: torch.Tensor) -> torch.Tensor:
    """What a careful user writes: FEM inside the hooks, so that no activation outlives its layer."""
    maps: list[torch.Tensor] = []

    def look(_: torch.nn.Module, __: Any, activation: torch.Tensor) -> None:
        deviation, mean = torch.std_mean(activation, dim=(2, 3), correction=0, keepdim=True)
        raw = torch.where(activation >= mean + K * deviation, mean, 0.0).sum(dim=1, keepdim=True)
        importance = torch.nn.functional.interpolate(raw, inputs.shape[2:], mode="bilinear", align_corners=False)
        low, high = importance.amin(dim=(2, 3), keepdim=True), importance.amax(dim=(2, 3), keepdim=True)
        importance = (importance - low) / (high - low).clamp_min(1e-12)
        maps[:] = [ALPHA * maps[0] + (1 - ALPHA) * importance] if maps else [importance]

    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return maps[0]


def _grad_cam(kind: type, model: torch.nn.Module, layers: list[torch.nn.Module], inputs: torch.Tensor) -> np.ndarray:
    with kind(model=model, target_layers=layers) as cam:
        return cam(input_tensor=inputs, targets=None)


def _captum(model: torch.nn.Module, layers: Sequence[torch.nn.Module], inputs: torch.Tensor) -> torch.Tensor:
    """One forward and backward for each layer: captum takes one layer at a time."""
    classes = model(inputs).argmax(dim=1)
    maps = [LayerGradCam(model, layer).attribute(inputs, classes, relu_attributions=True) for layer in layers]
    size = inputs.shape[2:]
    return torch.stack(
        [torch.nn.functional.interpolate(importance, size, mode="bilinear") for importance in maps]
    ).mean(dim=0)
