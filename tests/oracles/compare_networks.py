"""Compares every named network with what torchvision and timm made of it: `make_network_golden.py --all DIR`.

    python tests/oracles/compare_networks.py DIR
    python tests/oracles/compare_networks.py FILE  # of `--shapes`: whether names and shapes fit, without a forward

Prints for each file the largest errors of the logits and of any block's samples and summary, relative to the largest
magnitude, and fails if one is above 1e-4.
"""

import functools
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
from flax import nnx

from mlfem_jax import load_backbone
from mlfem_jax.backbones.architectures import ARCHITECTURES
from mlfem_jax.backbones.files.fit import check_weights, without_prefix
from mlfem_jax.backbones.files.folding import expected_shapes
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


def fits(name: str, shapes: dict[str, list[int]]) -> int:
    """How many arrays the network takes of a state dict of these shapes; raises where they are not those of it."""
    architecture = ARCHITECTURES[name]
    build = functools.partial(architecture.build, classes=5)
    params = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))))
    arrays = {f"net.{key}": np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    expected = expected_shapes(params, {}, architecture.torch_names)
    arrays = architecture.canonical(without_prefix(arrays, expected, rename=architecture.renamed))
    check_weights(arrays, expected, source=name)
    return len(expected)


def main(folder: str) -> None:
    """Prints a line for each file."""
    if Path(folder).is_file():
        for key, shapes in json.loads(Path(folder).read_text()).items():
            print(f"{key}: {fits(key.split('@')[0], shapes)} arrays", flush=True)
        return
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
