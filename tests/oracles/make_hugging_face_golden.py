"""Makes golden/hugging_face_*.npz: what transformers makes of small networks of its convolutional families and Swin.

    python tests/oracles/make_hugging_face_golden.py [NAMES]

Made with torch 2.14.1 and transformers 5.24.0 (neither is needed to run the tests). Each file holds what
`golden.write_golden` writes, on synthetic weights and images whose sides are odd; `state_dict`, the names and shapes
that a folder of `save_pretrained` has; and `config`, its config.json.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import golden
import numpy as np
import safetensors.torch
import torch
import transformers
from synthetic_weights import network_weight, synthetic_inputs

LABELS = {"id2label": dict(enumerate("abcde")), "label2id": {name: index for index, name in enumerate("abcde")}}
SWIN = {"embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2], "window_size": 3, "image_size": 64}
CONVNEXT = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 2, 1, 1]}
REGNET = {"embedding_size": 32, "hidden_sizes": [16, 24], "depths": [1, 2], "groups_width": 8}
RESNET = {"hidden_sizes": [64, 128, 256, 512], "depths": [1, 2, 1, 1], "layer_type": "basic"}
BOTTLENECK = {"hidden_sizes": [256, 512, 1024, 2048], "depths": [1, 1, 1, 1]}
SHAPE = (1, 45, 70, 3)
WHOLE = (1, 44, 68, 3)  # of whole patches: transformers' Swin adds zeros to others, torchvision leaves pixels out

MODELS: dict[str, Callable] = {
    "swin": lambda: transformers.SwinForImageClassification(transformers.SwinConfig(**SWIN, **LABELS)),
    "swinv2": lambda: transformers.Swinv2ForImageClassification(transformers.Swinv2Config(**SWIN, **LABELS)),
    "convnext": lambda: transformers.ConvNextForImageClassification(
        transformers.ConvNextConfig(**CONVNEXT, **LABELS)
    ),
    "convnextv2": lambda: transformers.ConvNextV2ForImageClassification(
        transformers.ConvNextV2Config(**CONVNEXT, **LABELS)
    ),
    "resnet_basic": lambda: transformers.ResNetForImageClassification(transformers.ResNetConfig(**RESNET, **LABELS)),
    "resnet_bottleneck": lambda: transformers.ResNetForImageClassification(
        transformers.ResNetConfig(**BOTTLENECK, **LABELS)
    ),
    "regnet_x": lambda: transformers.RegNetForImageClassification(
        transformers.RegNetConfig(**REGNET, **LABELS, layer_type="x")
    ),
    "regnet_y": lambda: transformers.RegNetForImageClassification(transformers.RegNetConfig(**REGNET, **LABELS)),
}  # fmt: skip
NAMES = {
    # Of block `index` of stage `stage`, both counted from 0; RegNet's and ResNet's stages are counted from 1.
    "swin": lambda stage, index: f"layers.{stage}.blocks.{index}",
    "convnext": lambda stage, index: f"stages.{stage}.blocks.{index}",
    "resnet": lambda stage, index: f"layer{stage + 1}.{index}",
    "regnet": lambda stage, index: f"s{stage + 1}.b{index + 1}",
}


def blocks(name: str, model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Our names of the blocks, and the blocks."""
    encoder = model.base_model.encoder
    named = next(function for family, function in NAMES.items() if name.startswith(family))
    for stage, part in enumerate(encoder.layers if name.startswith("swin") else encoder.stages):
        for index, block in enumerate(part.blocks if name.startswith("swin") else part.layers):
            yield named(stage, index), block


def grid(tokens: torch.Tensor | tuple[torch.Tensor, ...], arguments: tuple) -> np.ndarray:
    """Channels last; Swin's blocks are told the sides of their grid of tokens."""
    tokens = tokens[0] if isinstance(tokens, tuple) else tokens
    if tokens.ndim == 3:
        return tokens.reshape(len(tokens), *arguments[1], -1).numpy().copy()
    return tokens.permute(0, 2, 3, 1).numpy().copy()


@torch.no_grad()
def make(name: str) -> None:
    """Writes one network's golden file."""
    model = MODELS[name]()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config, file = json.loads(Path(folder, "config.json").read_text()), Path(folder, "model.safetensors")
        saved = {key: array for key, array in safetensors.torch.load_file(file).items() if array.is_floating_point()}
        shapes = {key: tuple(array.shape) for key, array in saved.items()}
        weights = {key: torch.from_numpy(network_weight(key, shape)) for key, shape in shapes.items()}
        safetensors.torch.save_file(weights, file, {"format": "pt"})
        # Its modules have other names than its files.
        model = type(model).from_pretrained(folder).eval().double()
    activations: dict[str, np.ndarray] = {}
    for layer, module in blocks(name, model):
        module.register_forward_hook(lambda _, given, out, layer=layer: activations.update({layer: grid(out, given)}))
    shape = WHOLE if name.startswith("swin") else SHAPE
    logits = model(torch.from_numpy(synthetic_inputs(shape)).permute(0, 3, 1, 2).double()).logits.numpy()
    golden.write_golden(
        f"hugging_face_{name}", logits=logits, activations=activations, input_shape=shape, state_dict=shapes,
        config=config,
    )  # fmt: skip


if __name__ == "__main__":
    print(torch.__version__, transformers.__version__)
    for model_name in sys.argv[1:] or MODELS:
        make(model_name)
