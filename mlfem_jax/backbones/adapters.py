"""Other people's networks as backbones: any JAX function."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mlfem_jax.backbones.base import Apply, Backbone, Output, Preprocess
from mlfem_jax.backbones.preprocess import as_they_are, imagenet_preprocess
from mlfem_jax.upsampling import Grid

_MISSING_HOOK = {
    "tap": "backbone: expected one that gives the gradient at its layers, got {name!r}, whose `apply` does not take "
    "`tap`, see from_function. Methods that need activations, the gradient at the input, or repeated forwards work",
    "rules": "backbone: expected one with exchangeable backward rules, which LRP, guided backpropagation and DeconvNet "
    "need, got {name!r}, which has none. The networks of load_backbone have them; elsewhere `apply` must take `rules`, "
    "see mlfem_jax.backbones.hooks. Every other method works",
}


_ACTIVATIONS = {1: "(N, l, C)", 2: "(N, h, w, C)", 3: "(N, t, h, w, C)"}
"""Number of spatial axes to what activations of so many are called."""


def from_function(
    apply: Apply,
    params: Any,
    *,
    input_size: tuple[int, int] | None = None,
    input_shape: tuple[int, ...] | None = None,
    preprocess: Preprocess | None = None,
    labels: Sequence[str] = (),
    output: Output | None = None,
    signs: str | Sequence[str] = (),
    grids: Mapping[str, Grid] | None = None,
    name: str = "custom",
) -> Backbone:
    """A backbone from any JAX function that returns logits and named activations.

    Args:
        apply: pure; (params, inputs (N, H, W, 3) float) to logits (N, classes) and a dict of activations (N, h, w, C)
            in the order of the network, each after its non-linearity. A function under `jax.jit` returns a plain
            dict in the order of its sorted keys; return an `OrderedDict` there. Where it takes the keyword `tap`, a
            function (layer name, activation) to activation that it calls at each layer, going on with the result,
            methods that need the gradient at a layer (Grad-CAM) work too. With `input_shape` its inputs are (N,
            *input_shape) and its activations (N, l, C), (N, h, w, C) or (N, t, h, w, C).
        params: its parameters, a pytree of arrays.
        input_size: (height, width) in pixels of the photographs it was trained on: RGB, uint8 or in [0, 1].
        input_shape: in its place, for any other data: the shape of one example, such as (16000,) for sound, (150, 6)
            for a series of six channels, (100, 27, 48, 3) for a clip. Whether the last axis counts channels is told by
            the activations: their spatial axes are those of the input.
        preprocess: (N, H, W, 3) uint8 or float in [0, 1] to what `apply` takes. Default: photographs are standardized
            by ImageNet's mean and standard deviation; other data goes in as it is, in float32. What changes the shape,
            such as a spectrogram, is made before.
        labels: class names in the order of the logits.
        output: how the logits become probabilities; None is "softmax", and "sigmoid" for a single logit.
        signs: what FEM does with activations below zero, see `mlfem_jax.fem`: one for all layers, or one for each.
            Not given: FEM takes them as they are, and `explain` warns where there are some.
        grids: layer name to where its positions lie in the input (`mlfem_jax.Grid`). A layer that is not named is taken
            to cover the input evenly, as one with padding does; behind convolutions without padding its map would be
            shifted and stretched.
        name: for people.

    Returns:
        The backbone; its layers are the keys of the activations. Its `apply` and `preprocess` take examples with a
        channel axis, (N, *input_size, channels), whatever `input_shape` has.

    Raises:
        ValueError: `apply` returns something else, or takes images of other than three channels; it says what. Neither
            of `input_size` and `input_shape`, or both; a grid of another layer or of another number of axes.

    Example:
        >>> def apply(params, inputs):
        ...     features = jax.nn.relu(inputs @ params)
        ...     return features.mean(axis=(1, 2)), {"features": features}
        >>> from_function(apply, jnp.ones((3, 4)), input_size=(8, 8)).layers
        ('features',)
        >>> def loudness(params, signals):
        ...     return signals.mean(axis=1, keepdims=True), {"features": jnp.abs(signals)[..., None]}
        >>> from_function(loudness, (), input_shape=(16000,)).input_shape
        (16000, 1)
    """
    shape = _shape_of_example(input_size, input_shape)
    accepted = inspect.signature(apply).parameters

    def ordered(params, inputs, **hooks):
        for hook in hooks:
            if hook not in accepted:
                raise ValueError(_MISSING_HOOK[hook].format(name=name))
        outputs = apply(params, inputs, **hooks)
        if not (isinstance(outputs, tuple) and len(outputs) == 2 and isinstance(outputs[1], dict) and outputs[1]):
            raise ValueError(f"apply: expected (logits, dict of activations), got {jax.tree.map(jnp.shape, outputs)}")
        return outputs[0], OrderedDict(outputs[1])

    photos = input_size is not None
    try:
        logits, activations = jax.eval_shape(ordered, params, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    except Exception as error:
        if photos:
            _check_channels(ordered, params, input_size, error)
        raise
    if getattr(logits, "ndim", None) != 2:
        raise ValueError(f"apply: expected logits of shape (N, classes), got {jax.tree.map(jnp.shape, logits)}")
    axes = _spatial_axes(activations, (2,) if photos else (len(shape), len(shape) - 1))
    if labels and len(labels) != logits.shape[1]:
        raise ValueError(f"labels: expected {logits.shape[1]} names, one for each logit, got {len(labels)}")
    preprocess = preprocess or (imagenet_preprocess if photos else as_they_are)
    bare = axes == len(shape)
    if not photos:
        _check_preprocess(preprocess, shape)
    return Backbone(
        name=name,
        apply=_with_channels(ordered) if bare else ordered,
        params=params,
        preprocess=_channels_kept(preprocess) if bare else preprocess,
        layers=tuple(activations),
        input_size=shape[:axes],
        labels=tuple(labels),
        output="sigmoid" if logits.shape[1] == 1 else output or "softmax",
        signs=(signs,) * len(activations) if isinstance(signs, str) else tuple(signs),
        channels=1 if bare else shape[-1],
        photos=photos,
        grids=_grids(grids or {}, tuple(activations), axes),
    )


def _shape_of_example(input_size: tuple[int, int] | None, input_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    if (input_size is None) == (input_shape is None):
        raise ValueError(
            "input_shape: expected either it, the shape of one example, or input_size, (height, width) of photographs, "
            f"got {'neither' if input_size is None else 'both'}"
        )
    shape = (*input_size, 3) if input_size is not None else tuple(input_shape or ())
    if not 1 <= len(shape) <= 4 or min(shape) < 1 or (input_size is not None and len(shape) != 3):
        raise ValueError(
            "input_size, input_shape: expected (height, width) of photographs, or one to four lengths of at least 1, "
            f"got {input_size or input_shape}"
        )
    return shape


def _spatial_axes(activations: Mapping[str, Any], possible: tuple[int, ...]) -> int:
    """The number of spatial axes of all activations, one of those that are possible."""
    wanted = [_ACTIVATIONS[axes] for axes in possible if axes in _ACTIVATIONS]
    first = None
    for layer, activation in activations.items():
        axes = getattr(activation, "ndim", 0) - 2
        if axes not in possible or axes not in _ACTIVATIONS or axes != (first or axes):
            raise ValueError(
                f"apply: expected the activation {layer!r} to be {' or '.join(wanted)}, with the spatial axes of the "
                f"input, got {jax.tree.map(jnp.shape, activation)}"
            )
        first = axes
    return first or 0


def _check_preprocess(preprocess: Preprocess, shape: tuple[int, ...]) -> None:
    made = jax.eval_shape(preprocess, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    if getattr(made, "shape", None) != (1, *shape):
        raise ValueError(
            f"preprocess: expected a function that keeps the shape {(1, *shape)}, got one that makes "
            f"{getattr(made, 'shape', made)} of it; let the network take that, and make it before"
        )


def _with_channels(apply: Callable[..., Any]) -> Callable[..., Any]:
    """A function of inputs without a channel axis, as one of inputs with a single channel."""
    return lambda params, inputs, **hooks: apply(params, inputs[..., 0], **hooks)


def _channels_kept(preprocess: Preprocess) -> Preprocess:
    """A function of examples without a channel axis, as one of examples with a single channel."""
    return lambda examples: preprocess(examples[..., 0])[..., None]


def _grids(grids: Mapping[str, Grid], layers: tuple[str, ...], axes: int) -> tuple[Grid | None, ...]:
    if unknown := [layer for layer in grids if layer not in layers]:
        raise ValueError(f"grids: expected layers among {', '.join(layers)}, got {unknown[0]!r}")
    if wrong := [layer for layer, grid in grids.items() if len(grid.stride) != axes]:
        raise ValueError(f"grids: expected {axes} axes, those of the input, got {grids[wrong[0]]} for {wrong[0]!r}")
    return tuple(grids.get(layer) for layer in layers) if grids else ()


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
