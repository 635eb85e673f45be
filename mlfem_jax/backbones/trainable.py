"""The named networks in their training form, batch norm and all: out of a weight file, and back into one.

What is trained here is explained by `load_backbone(name, weights=FOLDER)`, which folds it as any other file.
"""

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mlfem_jax.backbones.architecture import Architecture
from mlfem_jax.backbones.base import Preprocess
from mlfem_jax.backbones.files.fit import check_values, check_weights
from mlfem_jax.backbones.files.folding import expected_shapes, state_dict, unfold
from mlfem_jax.backbones.files.read import LABELS, save_weights
from mlfem_jax.backbones.networks import small
from mlfem_jax.backbones.preprocess import unit_numbers
from mlfem_jax.backbones.registry import find_architecture, network_arrays, weight_file
from mlfem_jax.backbones.small_networks import SMALL, state_dict_of
from mlfem_jax.backbones.towers import TOWERS
from mlfem_jax.backbones.trainable_towers import apply_tower, initial_tower, tower_state_dict, trainable_tower
from mlfem_jax.files import replace_folder, replacing

if TYPE_CHECKING:
    from chex import ArrayTree
else:
    ArrayTree = Any  # beartype, which reads annotations while the tests run, fails on this recursive alias

Params: TypeAlias = ArrayTree
Statistics: TypeAlias = ArrayTree


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A network that can be trained; everything about it but its parameters.

    Attributes:
        name: of the architecture.
        classes: number of logits.
        apply: pure; (params, statistics, inputs (N, H, W, 3), running=False) to (logits (N, classes), statistics). It
            computes in the dtype of the inputs, batch norm in float32. With `running` it normalizes by the statistics
            and gives them back unchanged, as the folded network does; else by those of the batch.
        preprocess: see `Backbone.preprocess`.
        input_size: (height, width) in pixels; of recordings the lengths of the spatial axes.
        head: path of the last dense layer in `params`.
        channels: of the input.
        photos: the input is photographs, which are resized and changed at random; recordings go in as they are.
    """

    name: str
    classes: int
    apply: Callable[..., tuple[Float[Array, "N classes"], Statistics]]
    preprocess: Preprocess
    input_size: tuple[int, ...]
    head: str
    channels: int = 3
    photos: bool = True

    @property
    def photo_size(self) -> tuple[int, int]:
        """(height, width) in pixels of photographs."""
        height, width = self.input_size
        return height, width


def make_classifier(
    name: str, classes: int, *, momentum: float | None = None, input_shape: tuple[int, ...] | None = None
) -> Classifier:
    """A named network in its training form.

    Args:
        name: one of `backbone_names()`; of a vision transformer the head is put on what its tower pools.
        classes: number of logits.
        momentum: of the running statistics. Default: the architecture's own, 0.1 for ResNet and VGG, 0.01 for
            EfficientNet-Lite and Keras' ResNet. A vision transformer has none.
        input_shape: of one recording, channels last. Default: photographs.

    Raises:
        ValueError: unknown name, or a network that cannot be trained here; fewer than one class; a network of
            photographs for recordings, or the other way.

    Example:
        >>> make_classifier("resnet18", 4).head
        'fc'
    """
    if classes < 1:
        raise ValueError(f"classes: expected at least 1, got {classes}")
    if (input_shape is not None) != (name == SMALL):
        wanted = "a network of photographs" if input_shape is None else f"{SMALL}, which learns from recordings"
        raise ValueError(f"backbone: expected {wanted}, got {name!r}")
    if input_shape is not None:
        return _small_classifier(input_shape, classes)
    if name in TOWERS:
        tower = trainable_tower(name)
        side = tower.input_size or tower.config.size
        apply_one = functools.partial(apply_tower, tower)
        return Classifier(name, classes, apply_one, tower.preprocess, (side, side), "head")
    architecture = find_architecture(name)
    graphs = {running: nnx.graphdef(_skeleton(architecture, classes, momentum, running)) for running in (False, True)}

    def apply(params, statistics, inputs, *, running=False):
        network = nnx.merge(graphs[running], _in_dtype(params, inputs.dtype), statistics)
        logits, _ = network(inputs)
        return logits, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

    return Classifier(name, classes, apply, architecture.preprocess, architecture.input_size, architecture.head)


def _small_classifier(input_shape: tuple[int, ...], classes: int) -> Classifier:
    """`small_cnn`, which has no batch norm, and so no statistics."""

    def apply(params, statistics, inputs, *, running=False):
        del running
        return small.apply(_in_dtype(params, inputs.dtype), inputs)[0], statistics

    size, channels = input_shape[:-1], input_shape[-1]
    return Classifier(SMALL, classes, apply, unit_numbers, size, small.HEAD, channels=channels, photos=False)


def initial_weights(
    classifier: Classifier, *, weights: str | Path | None = None, seed: int = 0
) -> tuple[Params, Statistics]:
    """The parameters and running statistics before training.

    Args:
        classifier: from `make_classifier`.
        weights: as for `load_backbone`: a file; None for the packaged weights; "random" to train from scratch. A head
            for another number of classes, or none, is replaced by a random one. `small_cnn` is trained from scratch.
        seed: of what is random.

    Returns:
        (params, statistics), nested dicts of float32 arrays.

    Raises:
        ValueError: as `load_backbone`.
    """
    if not classifier.photos:
        if weights not in (None, "random"):
            raise ValueError(f"weights: expected none for {classifier.name}, trained from scratch, got {weights}")
        shape = (*classifier.input_size, classifier.channels)
        return small.initial(jax.random.key(seed), shape, classifier.classes), {}
    if classifier.name in TOWERS:
        return initial_tower(classifier.name, classifier.classes, weights, seed), {}
    architecture = find_architecture(classifier.name)
    build = _builder(architecture, classifier.classes, None, False)
    # One compiled function, where drawing layer by layer takes seconds.
    params, statistics = jax.jit(lambda key: _split(build(key)))(jax.random.key(seed))
    if weights == "random":
        return params, statistics
    file = weight_file(classifier.name, weights)
    arrays, _ = network_arrays(classifier.name, file)
    expected = expected_shapes(params, arrays, architecture.torch_names)
    keep = ()
    if getattr(arrays.get(f"{architecture.classifier}.weight"), "shape", ())[:1] != (classifier.classes,):
        keep = (classifier.head,)
        for entry in (f"{architecture.classifier}.weight", f"{architecture.classifier}.bias"):
            arrays.pop(entry, None), expected.pop(entry)
    check_weights(arrays, expected, source=file)
    check_values(arrays, expected, source=file)
    filled = unfold(params, statistics, arrays, architecture.torch_names, keep=keep)
    return jax.tree.map(jnp.asarray, filled)


def torch_state_dict(classifier: Classifier, params: Params, statistics: Statistics) -> dict[str, np.ndarray]:
    """The state dict by torchvision's names and in its layout (the port's for EfficientNet-Lite, timm's for a ViT)."""
    if classifier.name in TOWERS:
        return {name: np.asarray(array) for name, array in tower_state_dict(params).items()}
    architecture = find_architecture(classifier.name)
    return dict(architecture.published(state_dict(params, statistics, architecture.torch_names)))


def save_classifier(
    folder: str | Path,
    classifier: Classifier,
    params: Params,
    statistics: Statistics,
    *,
    labels: Sequence[str],
    notes: Mapping[str, Any],
) -> None:
    """Writes the network to a folder that `load_backbone` takes, whole or not at all.

    Args:
        folder: to write, or to replace: an orbax folder in it holds the state dict, and `classifier.json` the labels.
        classifier: the network.
        params: its parameters.
        statistics: its running statistics.
        labels: names of the classes, in the order of the logits.
        notes: what else belongs into `classifier.json`.
    """
    folder = Path(folder).absolute()
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    if classifier.photos:
        save_weights(partial / "default", torch_state_dict(classifier, params, statistics))
    else:
        save_weights(partial / "default", state_dict_of(params))
        notes = {"input_shape": [*classifier.input_size, classifier.channels], **notes}
    with replacing(partial / LABELS) as file:
        about = {"backbone": classifier.name, "labels": list(labels), **notes}
        file.write(json.dumps(about, indent=1).encode())
    replace_folder(partial, folder)


def _builder(architecture: Architecture, classes: int, momentum: float | None, running: bool) -> Callable:
    norm = architecture.norm
    if norm is not None:
        momentum = norm.momentum if momentum is None else momentum
        norm = dataclasses.replace(norm, momentum=momentum, running=running)
    return lambda key: architecture.build(classes=classes, norm=norm, rngs=nnx.Rngs(key))


def _skeleton(architecture: Architecture, classes: int, momentum: float | None, running: bool) -> nnx.Module:
    return nnx.eval_shape(lambda: _builder(architecture, classes, momentum, running)(0))


def _split(network: nnx.Module) -> tuple[Params, Statistics]:
    _, params, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)


def _in_dtype(params: dict[Any, Any], dtype: Any) -> dict[Any, Any]:
    """Kernels, and biases that are added to activations, in `dtype`; batch norm's scale and bias as they are."""
    if "scale" in params:
        return params | ({"kernel": params["kernel"].astype(dtype)} if "kernel" in params else {})
    return {
        name: _in_dtype(value, dtype) if isinstance(value, dict) else value.astype(dtype)
        for name, value in params.items()
    }
