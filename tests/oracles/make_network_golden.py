"""Makes golden/network_*.npz: what torchvision and timm make of small networks of today's families.

    python tests/oracles/make_network_golden.py            # the small ones, which the tests read
    python tests/oracles/make_network_golden.py --all DIR  # every variant that has a name here, into DIR

Made with torch 2.14.1, torchvision 0.29.1 and timm 1.0.31 (none is needed to run the tests). Each file holds what
`golden.write_golden` writes, on synthetic weights and images whose sides are odd, and `state_dict`, the names and shapes
that the weights are made from. The variants of DIR are compared by `tests/oracles/compare_networks.py DIR`.
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


def inception(model) -> Iterator[tuple[str, torch.nn.Module]]:
    """The modules."""
    for name, part in model.named_children():
        if name.startswith("Mixed") and not isinstance(part, torch.nn.Identity):
            yield name, part


LAYERS = {"convnext": convnext, "swin": swin, "mobilenet": mobile, "efficientnet": mobile, "tf_efficientnet": mobile}
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
    weights = {key: torch.from_numpy(network_weight(key, entry, shapes)) for key, entry in shapes.items()}
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
    """What FEM sees, channels last: Swin's tokens are so already; of a DenseNet the hooks hear what goes into a ReLU."""
    out = torch.relu(out) if name.startswith("densenet") else out
    return out if name.startswith("swin") else out.permute(0, 2, 3, 1)


SHAPES = {"inception": (1, 107, 131, 3)}


if __name__ == "__main__":
    for network, build in SMALL.items():
        if not sys.argv[1:] or network in sys.argv[1:]:
            make(network, build(), SHAPES.get(network.split("_")[0], (1, 45, 70, 3)))
