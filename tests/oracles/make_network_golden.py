"""Makes golden/network_*.npz: what torchvision and timm make of small networks of today's families.

    python tests/oracles/make_network_golden.py            # the small ones, which the tests read
    python tests/oracles/make_network_golden.py --all DIR [NAMES]  # every variant with a name here, into DIR

Made with torch 2.14.1, torchvision 0.29.1 and timm 1.0.31 (none is needed to run the tests). Each file holds what
`golden.write_golden` writes, on synthetic weights and images whose sides are odd, and `state_dict`, the names and
shapes that the weights are made from. The variants of DIR are compared by `tests/oracles/compare_networks.py DIR`.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import golden
import numpy as np
import timm
import torch
import torchvision
from synthetic_weights import network_weight, synthetic_inputs

CLASSES = 5
SMALL: dict[str, Callable] = {}
Layers = dict[str, torch.nn.Module]


def small(make: Callable) -> Callable:
    """Notes a network of the tests under its function's name."""
    SMALL[make.__name__] = make
    return make


def blocks(model: torch.nn.Module, name: str) -> Layers:
    """The modules whose outputs are our activations, by our names."""
    family = next(word for word in LAYERS if name.startswith(word))
    return dict(LAYERS[family](model))


def convnext(model) -> Iterator[tuple[str, torch.nn.Module]]:
    """torchvision keeps stages at 1, 3, 5, 7."""
    stages = model.features[1::2] if hasattr(model, "features") else model.stages
    for number, stage in enumerate(stages):
        for index, block in enumerate(getattr(stage, "blocks", stage)):
            yield f"stages.{number}.blocks.{index}", block


def swin(model) -> Iterator[tuple[str, torch.nn.Module]]:
    """The same of Swin."""
    stages = model.features[1::2] if hasattr(model, "features") else model.layers
    for number, stage in enumerate(stages):
        for index, block in enumerate(getattr(stage, "blocks", stage)):
            yield f"layers.{number}.blocks.{index}", block


def mobile(model) -> Iterator[tuple[str, torch.nn.Module]]:
    """torchvision's MobileNetV3 has one list of blocks, which ours has by stages."""
    if hasattr(model, "features"):
        *inner, head = model.features[1:]
        stages = inner if isinstance(inner[0], torch.nn.Sequential) else by_stages(inner)
    else:
        stages, head = list(model.blocks), getattr(model, "bn2", None)
        if head is None:
            *stages, head = stages
    for number, stage in enumerate(stages):
        for index, block in enumerate(stage):
            yield f"blocks.{number}.{index}", block
    yield "head", head


def by_stages(blocks: list[torch.nn.Module]) -> list[list[torch.nn.Module]]:
    """Cut where the number of channels changes."""
    stages: list[list[torch.nn.Module]] = []
    for block in blocks:
        if stages and stages[-1][-1].out_channels == block.out_channels:
            stages[-1].append(block)
        else:
            stages.append([block])
    return stages


def regnet(model) -> Iterator[tuple[str, torch.nn.Module]]:
    """The residual blocks."""
    stages = model.trunk_output if hasattr(model, "trunk_output") else [model.s1, model.s2, model.s3, model.s4]
    for number, stage in enumerate(stages, start=1):
        for index, block in enumerate(stage.children(), start=1):
            yield f"s{number}.b{index}", block


def densenet(model) -> Iterator[tuple[str, torch.nn.Module]]:
    """The second ReLU of each layer, and what the part behind a block reads."""
    for name, part in model.features.named_children():
        if name.startswith("denseblock"):
            for layer, module in part.named_children():
                yield f"{name}.{layer}", module.norm2
        elif name.startswith("transition"):
            yield name, part.norm
    yield "norm5", model.features.norm5


def lite(model) -> Iterator[tuple[str, torch.nn.Module]]:
    """Inside the blocks, behind the depthwise convolution: timm's norms hold the ReLU6."""
    blocks = [block for stage in model.blocks for block in stage]
    for number, block in enumerate(blocks):
        yield f"blocks.{number}", block.bn2 if hasattr(block, "conv_pwl") else block.bn1
    yield "head", model.bn2


def inception(model) -> Iterator[tuple[str, torch.nn.Module]]:
    """The modules."""
    for name, part in model.named_children():
        if name.startswith("Mixed") and not isinstance(part, torch.nn.Identity):
            yield name, part


LAYERS = {
    "efficientnet_lite": lite,
    "convnext": convnext,
    "swin": swin,
    "mobilenet": mobile,
    "efficientnet_": mobile,
    "tf_efficientnet": mobile,
}
LAYERS |= {"regnet": regnet, "densenet": densenet, "inception": inception}


@small
def convnext_torchvision():
    config = torchvision.models.convnext.CNBlockConfig
    settings = [config(8, 12, 1), config(12, None, 2)]
    return torchvision.models.ConvNeXt(settings, num_classes=CLASSES)


@small
def convnextv2_timm():
    sizes = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20)}
    return timm.models.ConvNeXt(**sizes, num_classes=CLASSES, use_grn=True, ls_init_value=None)


@small
def swin_torchvision():
    sizes = {"patch_size": [4, 4], "embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2], "window_size": [3, 3]}
    return torchvision.models.SwinTransformer(**sizes, num_classes=CLASSES, norm_layer=norm_layer)


@small
def swinv2_torchvision():
    sizes = {"patch_size": [4, 4], "embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2], "window_size": [3, 3]}
    parts = torchvision.models.swin_transformer
    v2 = {"block": parts.SwinTransformerBlockV2, "downsample_layer": parts.PatchMergingV2}
    return torchvision.models.SwinTransformer(**sizes, **v2, num_classes=CLASSES, norm_layer=norm_layer)


@small
def mobilenet_torchvision():
    block = torchvision.models.mobilenetv3.InvertedResidualConfig
    rows = [(8, 3, 8, 8, True, "RE", 2), (8, 5, 24, 16, True, "HS", 1), (16, 3, 24, 16, False, "HS", 1)]
    return torchvision.models.MobileNetV3([block(*row, 1, 1.0) for row in rows], 16, num_classes=CLASSES)


@small
def efficientnet_timm():
    rows = [["cn_r1_k3_s1_e1_c8_skip"], ["er_r1_k3_s2_e4_c16"], ["ir_r2_k3_s2_e4_c24_se0.25"]]
    options = {"pad_type": "same", "norm_layer": functools.partial(torch.nn.BatchNorm2d, eps=1e-3)}
    blocks = timm.models._efficientnet_builder.decode_arch_def(rows)
    options |= {"act_layer": torch.nn.SiLU, "num_features": 32, "stem_size": 8, "num_classes": CLASSES}
    return timm.models.EfficientNet(blocks, **options)


@small
def regnet_torchvision():
    sizes = {"depths": [1, 2], "widths": [16, 24], "group_widths": [8, 8], "bottleneck_multipliers": [1, 1]}
    params = torchvision.models.regnet.BlockParams(**sizes, strides=[2, 2], se_ratio=0.25)
    return torchvision.models.RegNet(params, num_classes=CLASSES)


@small
def densenet_torchvision():
    return torchvision.models.DenseNet(4, (2, 2), 8, num_classes=CLASSES)


@small
def inception_torchvision():
    """One module of each kind, of the widths that they have."""
    model = torchvision.models.Inception3(CLASSES, aux_logits=False, init_weights=False)
    parts = torchvision.models.inception
    for name in ("Mixed_5c", "Mixed_5d", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7c"):
        setattr(model, name, torch.nn.Identity())
    model.Mixed_6a, model.Mixed_6b = parts.InceptionB(256), parts.InceptionC(736, channels_7x7=128)
    return model


def norm_layer(width):
    """As torchvision's builders have it."""
    return torch.nn.LayerNorm(width, eps=1e-5)


@torch.no_grad()
def make(name: str, model: torch.nn.Module, shape: tuple[int, ...]) -> None:
    """Writes one network's golden file."""
    model.eval()
    shapes = {
        key: tuple(value.shape)
        for key, value in model.state_dict().items()
        if value.is_floating_point() and not key.endswith("relative_coords_table")  # which is computed
    }
    weights = {key: torch.from_numpy(network_weight(key, entry)) for key, entry in shapes.items()}
    model.load_state_dict(weights, strict=False)
    model.double()
    activations: dict[str, np.ndarray] = {}
    for layer, module in blocks(model, name).items():
        module.register_forward_hook(
            lambda _, __, out, layer=layer: activations.update({layer: seen(name, out).numpy().copy()})
        )
    logits = model(torch.from_numpy(synthetic_inputs(shape)).permute(0, 3, 1, 2).double()).numpy()
    golden.write_golden(f"network_{name}", logits=logits, activations=activations, input_shape=shape, state_dict=shapes)


def seen(name: str, out: torch.Tensor) -> torch.Tensor:
    """What FEM sees, channels last, as Swin's tokens are; of a DenseNet the hooks hear what goes into a ReLU."""
    out = torch.relu(out) if name.startswith("densenet") else out
    return out if name.startswith("swin") else out.permute(0, 2, 3, 1)


SHAPES = {"inception": (1, 107, 131, 3)}
ODD, LARGE_ODD = (1, 97, 131, 3), (1, 225, 301, 3)
TORCHVISION = (
    "convnext_tiny convnext_small convnext_base convnext_large swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b "
    "mobilenet_v3_large mobilenet_v3_small efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l densenet121 "
    "densenet161 densenet169 densenet201 inception_v3 regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf "
    "regnet_x_8gf regnet_x_16gf regnet_x_32gf regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf "
    "regnet_y_8gf regnet_y_16gf regnet_y_32gf"
).split()
TIMM = {name: name for name in (
    "convnext_atto convnext_femto convnext_pico convnext_nano convnext_tiny convnext_xlarge convnextv2_atto "
    "convnextv2_femto convnextv2_pico convnextv2_nano convnextv2_tiny convnextv2_base convnextv2_large "
    "densenet121 inception_v3 tf_efficientnetv2_s tf_efficientnetv2_m tf_efficientnetv2_l").split()}  # fmt: skip
TIMM |= {f"efficientnet_lite{number}": f"tf_efficientnet_lite{number}" for number in range(5)}
TIMM |= {f"mobilenet_v3_{size}": f"mobilenetv3_{size}_100" for size in ("large", "small")}
TIMM |= {f"swin_{size[0]}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large")}
TIMM |= {f"swin_v2_{size[0]}": f"swinv2_{size}_window8_256" for size in ("tiny", "small", "base")}
TIMM |= {"regnet_x_400mf": "regnetx_004_tv", "regnet_y_1_6gf": "regnety_016"}
AT_LARGE = "convnext_tiny swin_t swin_v2_t mobilenet_v3_large efficientnet_v2_s densenet121 inception_v3".split()
AT_LARGE += ["regnet_y_400mf", "tf_efficientnetv2_s", "efficientnet_lite1"]


def variants() -> Iterator[tuple[str, str, Callable, tuple[int, ...]]]:
    """Our name, whose, how it is built, and the shape of its input; timm's Swin takes images of one size alone."""
    for name in TORCHVISION:
        options = {"init_weights": False} if name == "inception_v3" else {}
        build = functools.partial(getattr(torchvision.models, name), num_classes=CLASSES, **options)
        yield name, "torchvision", build, LARGE_ODD if name in AT_LARGE else ODD
    for name, theirs in TIMM.items():
        shape = LARGE_ODD if name in AT_LARGE else ODD
        side = 256 if name.startswith("swin_v2") else 224
        shape = (1, side, side, 3) if name.startswith("swin") else shape
        yield name, "timm", functools.partial(timm.create_model, theirs, num_classes=CLASSES), shape


def main(*arguments: str) -> None:
    """The small ones, or those that are named; or all in a folder."""
    if arguments[:1] != ("--all",):
        for name, build in SMALL.items():
            if not arguments or name in arguments:
                make(name, build(), SHAPES.get(name.split("_")[0], (1, 45, 70, 3)))
        return
    golden.FOLDER = Path(arguments[1])
    for name, whose, build, shape in variants():
        if len(arguments) == 2 or name in arguments[2:]:
            make(f"{name}@{whose}", build(), shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
