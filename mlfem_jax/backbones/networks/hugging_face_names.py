"""transformers' names of ResNet and RegNet, which it builds of the same parts."""

import dataclasses
import re

_PART = re.compile(
    r"(?:resnet\.|regnet\.)?(?:embedder\.embedder|encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:shortcut|layer\.(\d)))"
    r"\.(convolution|normalization|attention\.[02])\.(\w+)"
)


@dataclasses.dataclass(frozen=True)
class Part:
    """What an entry's name says.

    Attributes:
        block: (stage, index), both from 0; None of the first convolution.
        place: in the block, from 0; None of the shortcut, and of the first convolution.
        module: "convolution", "normalization", "attention.0" or "attention.2".
        leaf: "weight", "running_mean", ...
    """

    block: tuple[int, int] | None
    place: int | None
    module: str
    leaf: str


def part(name: str) -> Part | None:
    """What transformers' name of an entry says; None of another's name, and of the last dense layer.

    Example:
        >>> part("resnet.encoder.stages.1.layers.0.layer.2.convolution.weight")
        Part(block=(1, 0), place=2, module='convolution', leaf='weight')
    """
    found = _PART.fullmatch(name)
    if not found:
        return None
    stage, index, place, module, leaf = found.groups()
    block = None if stage is None else (int(stage), int(index))
    return Part(block, None if place is None else int(place), module, leaf)


def dense(name: str, ours: str) -> str:
    """The name of the last dense layer's entry, "classifier.1" in transformers; any other name as it is."""
    return re.sub(r"^classifier\.1\.", f"{ours}.", name)
