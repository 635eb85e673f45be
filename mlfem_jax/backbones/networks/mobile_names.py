"""State dicts of MobileNetV3 and EfficientNetV2: timm's names, which are the canonical ones, and torchvision's."""

import functools
from collections.abc import Iterator, Mapping

import numpy as np

from mlfem_jax.backbones.networks.mobile import Block, Mobile

_TIMM = {
    # Kind of a block to its convolutions and the batch norms behind them, by our names.
    "inverted": {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")},
    "separable": {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")},
    "fused": {"expand": ("conv_exp", "bn1"), "project": ("conv_pwl", "bn2")},
    "plain": {"expand": ("conv", "bn1")},
}
_GATE = {"squeeze.reduce": ("se.conv_reduce", "fc1"), "squeeze.expand": ("se.conv_expand", "fc2")}
TIMM_EPSILON, _TORCHVISION_EPSILON = 1e-5, 1e-3
"""What the batch norms of MobileNetV3 add to a variance."""


def torch_names(path: str, config: Mobile) -> tuple[str, str | None]:
    """Names in timm of the convolution at `path` and of the batch norm behind it."""
    outer = {
        "stem": ("conv_stem", "bn1"),
        "head": (f"blocks.{len(config.stages)}.0.conv", f"blocks.{len(config.stages)}.0.bn1")
        if config.hidden
        else ("conv_head", "bn2"),
        "hidden": ("conv_head", None),
        "fc": ("classifier", None),
    }
    if path in outer:
        return outer[path]
    _, stage, index, part = path.split(".", 3)
    where = f"blocks.{stage}.{index}"
    if part in _GATE:
        return f"{where}.{_GATE[part][0]}", None
    conv, norm = _TIMM[_kinds(config)[int(stage)][int(index)]][part]
    return f"{where}.{conv}", f"{where}.{norm}"


@functools.cache
def _kinds(config: Mobile) -> list[list[str]]:
    channels, kinds = config.stem, []
    for blocks in config.stages:
        kinds.append([])
        for block in blocks:
            kinds[-1].append(_kind(channels, block))
            channels = block.width
    return kinds


def _kind(channels: int, block: Block) -> str:
    if block.fused:
        return "plain" if block.inner == channels else "fused"
    return "separable" if block.inner == channels else "inverted"


@functools.cache
def _torchvision(config: Mobile) -> dict[str, str]:
    """Modules of torchvision to timm's."""
    last = len(config.stages) if not config.hidden else sum(map(len, config.stages))
    found = {"features.0": "stem", f"features.{last + 1}": "head"}
    dense = {"classifier.0": "hidden", "classifier.3": "fc"} if config.hidden else {"classifier.1": "fc"}
    pairs = {theirs: torch_names(ours, config)[0] for theirs, ours in dense.items()}
    flat = 0
    for stage, blocks in enumerate(config.stages):
        for index, block in enumerate(blocks):
            flat += 1
            # MobileNetV3 has one list of blocks, EfficientNetV2 one of each stage.
            outer = f"features.{flat}" if config.hidden else f"features.{stage + 1}.{index}"
            ours, kind = f"blocks.{stage}.{index}", _kinds(config)[stage][index]
            for place, part in enumerate(_parts(kind, block)):
                if part == "squeeze":
                    pairs |= {f"{outer}.block.{place}.{theirs}": f"{ours}.{timm}" for timm, theirs in _GATE.values()}
                else:
                    found[f"{outer}.block.{place}"] = f"{ours}.{part}"
    for theirs, path in found.items():
        conv, norm = torch_names(path, config)
        pairs |= {f"{theirs}.0": conv, f"{theirs}.1": str(norm)}
    return {theirs: str(timm) for theirs, timm in pairs.items()}


def _parts(kind: str, block: Block) -> Iterator[str]:
    """Of a block, in torchvision's order."""
    for part in _TIMM[kind]:
        if part == "project" and block.squeezed:
            yield "squeeze"
        yield part


def renamed(name: str, config: Mobile) -> str:
    """An entry's name as timm has it."""
    module, _, leaf = name.rpartition(".")
    return f"{_torchvision(config).get(module, module)}.{leaf}"


def canonical(arrays: Mapping[str, np.ndarray], config: Mobile) -> dict[str, np.ndarray]:
    """The state dict by timm's names; its 1x1 convolution behind the mean over positions is a dense layer."""
    theirs = "features.0.0.weight" in arrays
    found = {renamed(name, config): array for name, array in arrays.items()}
    hidden = found.get("conv_head.weight", np.zeros(0))
    if config.hidden and hidden.ndim == 4:
        found["conv_head.weight"] = hidden.reshape(hidden.shape[:2])
    if config.hidden and theirs:
        more = _TORCHVISION_EPSILON - TIMM_EPSILON
        found |= {name: a.astype(np.float64) + more for name, a in found.items() if name.endswith("running_var")}
    return found


def timm_form(arrays: Mapping[str, np.ndarray], config: Mobile) -> dict[str, np.ndarray]:
    """The state dict as timm has it, the inverse of `canonical`."""
    return {**arrays, "conv_head.weight": arrays["conv_head.weight"][..., None, None]} if config.hidden else {**arrays}
