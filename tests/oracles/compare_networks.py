"""Compares every named network with what torchvision and timm made of it: `make_network_golden.py --all DIR`.

    python tests/oracles/compare_networks.py DIR

Prints for each file the largest errors of the logits and of any block's samples and summary, relative to the largest
magnitude, and fails if one is above 1e-4.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import numpy as np
import safetensors.numpy

from mlfem_jax import load_backbone
from tests.synthetic_weights import fingerprint, network_weight, synthetic_inputs

TOLERANCE = 1e-4


def errors(file: Path, name: str) -> tuple[float, float, int]:
    """Of the logits, of the blocks, and how many blocks there are."""
    golden = dict(np.load(file))
    shapes = json.loads(golden["state_dict"].item())
    weights = {key: network_weight(key, tuple(shape)) for key, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        safetensors.numpy.save_file(weights, Path(folder, "w.safetensors"))
        backbone = load_backbone(name, Path(folder, "w.safetensors"))
    logits, activations = jax.jit(backbone.apply)(backbone.params, synthetic_inputs(tuple(golden["input_shape"])))
    assert golden["layers"].tolist() == list(backbone.layers), (golden["layers"].tolist(), backbone.layers)
    blocks = 0.0
    for index, layer in enumerate(backbone.layers):
        assert activations[layer].shape == tuple(golden["shapes"][index]), layer
        for found, expected in zip(fingerprint(np.asarray(activations[layer])),
                                   (golden["samples"][index], golden["summary"][index]), strict=True):  # fmt: skip
            blocks = max(blocks, float(np.abs(found - expected).max() / golden["summary"][index, :, 2].max()))
    return float(np.abs(logits - golden["logits"]).max() / np.abs(golden["logits"]).max()), blocks, len(backbone.layers)


def main(folder: str) -> None:
    """Prints a line for each file."""
    worst = 0.0
    for file in sorted(Path(folder).glob("network_*.npz")):
        name, whose = file.stem.removeprefix("network_").split("@")
        logits, blocks, count = errors(file, name)
        worst = max(worst, logits, blocks)
        print(f"{name} ({whose}): logits {logits:.1e}, {count} layers {blocks:.1e}", flush=True)
    if worst > TOLERANCE:
        sys.exit(f"{worst:.1e} is above {TOLERANCE}")


if __name__ == "__main__":
    main(*sys.argv[1:])
