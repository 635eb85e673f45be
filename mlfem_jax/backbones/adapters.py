"""Other people's networks as backbones: any JAX function."""

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mlfem_jax.backbones.base import Apply, Backbone, Output, Preprocess
from mlfem_jax.backbones.preprocess import imagenet_preprocess

_MISSING_HOOK = {
    "tap": "backbone: expected one that gives the gradient at its layers, got {name!r}, whose `apply` does not take "
    "`tap`, see from_function. Methods that need activations, the gradient at the input, or repeated forwards work",
    "rules": "backbone: expected one with exchangeable backward rules, which LRP, guided backpropagation and DeconvNet "
    "need, got {name!r}, which has none. The networks of load_backbone have them; elsewhere `apply` must take `rules`, "
    "see mlfem_jax.backbones.hooks. Every other method works",
}


def from_function(
    apply: Apply,
    params: Any,
    *,
    input_size: tuple[int, int],
    preprocess: Preprocess = imagenet_preprocess,
    labels: Sequence[str] = (),
    output: Output | None = None,
    signs: str | Sequence[str] = (),
    name: str = "custom",
) -> Backbone:
    """A backbone from any JAX function that returns logits and named activations.

    Args:
        apply: pure; (params, inputs (N, H, W, 3) float) to logits (N, classes) and a dict of activations (N, h, w, C)
            in the order of the network, each after its non-linearity. A function under `jax.jit` returns a plain
            dict in the order of its sorted keys; return an `OrderedDict` there. Where it takes the keyword `tap`, a
            function (layer name, activation) to activation that it calls at each layer, going on with the result,
            methods that need the gradient at a layer (Grad-CAM) work too.
        params: its parameters, a pytree of arrays.
        input_size: (height, width) in pixels of the images it was trained on.
        preprocess: (N, H, W, 3) uint8 or float in [0, 1] to what `apply` takes; the default standardizes by
            ImageNet's mean and standard deviation.
        labels: class names in the order of the logits.
        output: how the logits become probabilities; None is "softmax", and "sigmoid" for a single logit.
        signs: what FEM does with activations below zero, see `mlfem_jax.fem`: one for all layers, or one for each.
            Not given: FEM takes them as they are, and `explain` warns where there are some.
        name: for people.

    Returns:
        The backbone; its layers are the keys of the activations.

    Raises:
        ValueError: `apply` returns something else, or takes images of other than three channels; it says what.

    Example:
        >>> def apply(params, inputs):
        ...     features = jax.nn.relu(inputs @ params)
        ...     return features.mean(axis=(1, 2)), {"features": features}
        >>> from_function(apply, jnp.ones((3, 4)), input_size=(8, 8)).layers
        ('features',)
    """
    accepted = inspect.signature(apply).parameters

    def ordered(params, inputs, **hooks):
        for hook in hooks:
            if hook not in accepted:
                raise ValueError(_MISSING_HOOK[hook].format(name=name))
        outputs = apply(params, inputs, **hooks)
        if not (isinstance(outputs, tuple) and len(outputs) == 2 and isinstance(outputs[1], dict) and outputs[1]):
            raise ValueError(f"apply: expected (logits, dict of activations), got {jax.tree.map(jnp.shape, outputs)}")
        return outputs[0], OrderedDict(outputs[1])

    inputs = jax.ShapeDtypeStruct((1, *input_size, 3), jnp.float32)
    try:
        logits, activations = jax.eval_shape(ordered, params, inputs)
    except Exception as error:
        _check_channels(ordered, params, input_size, error)
        raise
    if getattr(logits, "ndim", None) != 2:
        raise ValueError(f"apply: expected logits of shape (N, classes), got {jax.tree.map(jnp.shape, logits)}")
    for layer, activation in activations.items():
        if getattr(activation, "ndim", None) != 4:
            shape = jax.tree.map(jnp.shape, activation)
            raise ValueError(f"apply: expected the activation {layer!r} to be (N, h, w, C), got {shape}")
    if labels and len(labels) != logits.shape[1]:
        raise ValueError(f"labels: expected {logits.shape[1]} names, one for each logit, got {len(labels)}")
    output = "sigmoid" if logits.shape[1] == 1 else output or "softmax"
    signs = (signs,) * len(activations) if isinstance(signs, str) else tuple(signs)
    layers, names = tuple(activations), tuple(labels)
    return Backbone(name, ordered, params, preprocess, layers, input_size, names, output, signs)


def _check_channels(apply: Apply, params: Any, input_size: tuple[int, int], error: Exception) -> None:
    """Whether the network failed because it takes other images than those of red, green and blue."""
    for channels in (1, 2, 4):
        try:
            jax.eval_shape(apply, params, jax.ShapeDtypeStruct((1, *input_size, channels), jnp.float32))
        except Exception:
            continue
        advice = "the mean over them, inputs.mean(axis=-1, keepdims=True)" if channels == 1 else "what it needs"
        raise ValueError(
            f"apply: expected a network of images (N, H, W, 3), got one that takes {channels} channel"
            f"{'s' if channels > 1 else ''}. Let it take red, green and blue, and begin with {advice}; `preprocess` "
            "must keep the three channels"
        ) from error
