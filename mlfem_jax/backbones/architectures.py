"""The convolutional networks, and Swin, that `load_backbone` knows by name."""

import functools

from mlfem_jax.backbones import families
from mlfem_jax.backbones.architecture import Architecture
from mlfem_jax.backbones.files.keras_file import torch_resnet
from mlfem_jax.backbones.networks import convnext, densenet, inception, mobile, regnet, resnet, swin
from mlfem_jax.backbones.networks.batch_norm import Norm
from mlfem_jax.backbones.preprocess import half_preprocess, keras_preprocess

_VGG16, _VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

ARCHITECTURES: dict[str, Architecture] = {
    "efficientnet_lite0": families.lite_network(0, 1.0, 1.0, 224, "57934424"),
    "resnet18": families.resnet_network(18, resnet.BasicBlock, (2, 2, 2, 2)),
    "resnet34": families.resnet_network(34, resnet.BasicBlock, (3, 4, 6, 3)),
    "resnet50": families.resnet_network(50, resnet.Bottleneck, (3, 4, 6, 3)),
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
    "resnet101": families.resnet_network(101, resnet.Bottleneck, (3, 4, 23, 3)),
    "resnet152": families.resnet_network(152, resnet.Bottleneck, (3, 8, 36, 3)),
    "vgg16": families.vgg_network(16, _VGG16, norm=False),
    "vgg19": families.vgg_network(19, _VGG19, norm=False),
    "vgg16_bn": families.vgg_network(16, _VGG16, norm=True),
    "vgg19_bn": families.vgg_network(19, _VGG19, norm=True),
    "efficientnet_lite1": families.lite_network(1, 1.0, 1.1, 240, "77cc7160"),
    "efficientnet_lite2": families.lite_network(2, 1.1, 1.2, 260, "9656183e"),
    "efficientnet_lite3": families.lite_network(3, 1.2, 1.4, 280),
    "efficientnet_lite4": families.lite_network(4, 1.4, 1.8, 300),
    **{f"convnext_{variant}": families.convnext_network(variant) for variant in convnext.VARIANTS if variant != "huge"},
    **{
        f"convnextv2_{variant}": families.convnext_network(variant, second=True)
        for variant in convnext.VARIANTS
        if variant not in ("small", "xlarge")
    },
    **{f"swin_{variant[0]}": families.swin_network(variant) for variant in swin.VARIANTS},
    **{f"swin_v2_{variant[0]}": families.swin_network(variant, second=True) for variant in ("tiny", "small", "base")},
    **{f"mobilenet_v3_{variant}": families.mobilenet_network(variant) for variant in mobile.MOBILENET_V3},
    "efficientnet_v2_s": families.efficientnet_v2_network("s", 384),
    "efficientnet_v2_m": families.efficientnet_v2_network("m", 480),
    "efficientnet_v2_l": families.efficientnet_v2_network("l", 480, preprocess=half_preprocess),
    "tf_efficientnetv2_s": families.efficientnet_v2_network("s", 384, padding="same", preprocess=half_preprocess),
    "tf_efficientnetv2_m": families.efficientnet_v2_network("m", 480, padding="same", preprocess=half_preprocess),
    "tf_efficientnetv2_l": families.efficientnet_v2_network("l", 480, padding="same", preprocess=half_preprocess),
    **{f"densenet{variant}": families.densenet_network(variant) for variant in densenet.VARIANTS},
    **{f"regnet_{variant}": families.regnet_network(variant) for variant in regnet.VARIANTS},
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
