"""Other people's networks as backbones: any JAX function, a Flax NNX module, a Flax Linen module."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from mlfem_jax.backbones.base import Apply, Backbone, Output, Preprocess
from mlfem_jax.backbones.hooks import Tap, no_tap
from mlfem_jax.backbones.preprocess import imagenet_preprocess

Activation = Callable[[jax.Array], jax.Array]

_MISSING_HOOK = {
    "tap": "backbone: expected one that gives the gradient at its layers, got {name!r}, whose `apply` does not take "
    "`tap`, see from_function. Methods that need activations, the gradient at the input, or repeated forwards work",
    "rules": "backbone: expected one with exchangeable backward rules, which LRP, guided backpropagation and DeconvNet "
    "need, got {name!r}, which has none. The ResNets, VGGs and EfficientNet-Lite of load_backbone have them; elsewhere "
    "`apply` must take `rules`, see mlfem_jax.backbones.hooks. Every other method works",
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


def from_nnx(
    module: nnx.Module,
    layers: Sequence[str],
    *,
    input_size: tuple[int, int],
    activation: Activation | None = None,
    **options: Any,
) -> Backbone:
    """A backbone from a Flax NNX module that maps (N, H, W, 3) to logits.

    Args:
        module: the network; a copy of it runs in inference mode (`eval()`).
        layers: attribute paths of the submodules whose outputs FEM sees, in order, such as "stage1.0.conv2"; a number
            indexes a list. Of a submodule that is called more than once, it is the last output.
        input_size: see `from_function`.
        activation: applied to each of those outputs before FEM sees it, where the network applies its non-linearity
            as a function behind the layer (`jax.nn.relu`).
        **options: see `from_function`.

    Returns:
        The backbone; the network itself computes what it did before.

    Raises:
        ValueError: a path that does not exist, naming what is there; as `from_function`.

    Example:
        >>> net = nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), lambda x: x.mean(axis=(1, 2)))
        >>> from_nnx(net, ["layers.0"], input_size=(8, 8), activation=jax.nn.relu).layers
        ('layers.0',)
    """
    graph, state = nnx.split(module)

    def apply(params, inputs, *, tap=no_tap):
        _check_tap(tap, activation)
        network = nnx.merge(graph, params)
        network.eval()
        recorded: dict[str, jax.Array] = {}
        for path in layers:
            _record(network, path, recorded, tap)
        logits = network(inputs)
        return logits, _in_order(recorded, layers, activation)

    return from_function(apply, state, input_size=input_size, **options)


def from_linen(
    module: Any,
    variables: Any,
    layers: Sequence[str],
    *,
    input_size: tuple[int, int],
    activation: Activation | None = None,
    arguments: dict[str, Any] | None = None,
    **options: Any,
) -> Backbone:
    """A backbone from a Flax Linen module that maps (N, H, W, 3) to logits.

    Args:
        module: the network.
        variables: what `module.init` returned, trained.
        layers: paths of the submodules whose outputs FEM sees, in order, such as "ResNetBlock_0/Conv_1".
        input_size: see `from_function`.
        activation: see `from_nnx`.
        arguments: further keyword arguments of the call, such as `{"train": False}`.
        **options: see `from_function`.

    Returns:
        The backbone.

    Raises:
        ValueError: a path that does not exist, naming what is there; as `from_function`.

    Example:
        >>> from flax import linen as nn
        >>> net = nn.Sequential([nn.Conv(4, (3, 3)), lambda x: x.mean(axis=(1, 2))])
        >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        >>> from_linen(net, variables, ["layers_0"], input_size=(8, 8)).layers
        ('layers_0',)
    """

    def apply(variables, inputs, *, tap=no_tap):
        _check_tap(tap, activation)

        called: set[str] = set()

        def tapped(call, args, kwargs, context):
            output, path = call(*args, **kwargs), "/".join(context.module.path)
            if context.method_name != "__call__" or path not in layers:
                return output
            _check_once(path, called, tap)
            called.add(path)
            return tap(path, output)

        with linen.intercept_methods(tapped):
            logits, state = module.apply(
                variables, inputs, capture_intermediates=True, mutable=["intermediates"], **(arguments or {})
            )
        return logits, _in_order(dict(_calls(state["intermediates"])), layers, activation)

    return from_function(apply, variables, input_size=input_size, **options)


class _Recorder:
    """Stands in for a submodule during one call and notes its output."""

    def __init__(self, module: Any, path: str, recorded: dict[str, jax.Array], tap: Tap):
        self.module, self.path, self.recorded, self.tap = module, path, recorded, tap

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        _check_once(self.path, self.recorded, self.tap)
        output = self.recorded[self.path] = self.tap(self.path, self.module(*arguments, **keywords))
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


def _check_tap(tap: Tap, activation: Activation | None) -> None:
    """A tap behind an `activation` that only FEM applies would change what the network computes."""
    if tap is not no_tap and activation is not None:
        raise ValueError(
            "activation: expected none where the gradient at a layer is needed, got one: behind a non-linearity that "
            "the network applies as a function it cannot be had; make the non-linearity a submodule and name it in "
            "`layers`, without `activation`"
        )


def _check_once(path: str, called: Container[str], tap: Tap) -> None:
    """The gradient at a module that the network calls twice would be that of both calls."""
    if tap is not no_tap and path in called:
        raise ValueError(
            f"layers: expected modules that the network calls once, got {path!r}, which it calls more than once, so "
            "that there is no one gradient there; give each call a module of its own. Methods that need activations "
            "see the last call"
        )


def _record(network: nnx.Module, path: str, recorded: dict[str, jax.Array], tap: Tap) -> None:
    """Puts a recorder in the place of the submodule at `path`."""
    *parents, leaf = path.split(".")
    parent: Any = network
    for part in parents:
        parent = _child(parent, part, path)
    recorder = _Recorder(_child(parent, leaf, path), path, recorded, tap)
    if leaf.isdigit():
        parent[int(leaf)] = recorder
    else:
        setattr(parent, leaf, recorder)


def _child(parent: Any, part: str, path: str) -> Any:
    try:
        return parent[int(part)] if part.isdigit() else getattr(parent, part)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        there = [name for name in vars(parent) if not name.startswith("_")] if hasattr(parent, "__dict__") else []
        raise ValueError(
            f"layers: expected the path of a module, got {path!r}; in the place of {part!r} there is "
            f"{', '.join(there) or 'nothing'}"
        ) from error


def _calls(intermediates: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, output of its last call) of every submodule that Linen captured."""
    for name, value in intermediates.items():
        if name == "__call__":
            yield path, value[-1]
        elif isinstance(value, dict):
            yield from _calls(value, f"{path}/{name}" if path else name)


def _in_order(
    recorded: dict[str, Any], layers: Sequence[str], activation: Activation | None
) -> "OrderedDict[str, jax.Array]":
    missing = [layer for layer in layers if layer not in recorded]
    if missing:
        there = ", ".join(path for path in recorded if path) or "nothing"
        raise ValueError(
            f"layers: expected modules that the network calls, got {', '.join(missing)}; it called {there}"
        )
    return OrderedDict((layer, activation(recorded[layer]) if activation else recorded[layer]) for layer in layers)
