"""Flax modules as backbones, NNX and Linen: the outputs of submodules, named by their paths, are the activations."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
from flax import linen, nnx

from mlfem_jax.backbones.adapters import from_function
from mlfem_jax.backbones.base import Backbone
from mlfem_jax.backbones.hooks import Tap, no_tap
from mlfem_jax.backbones.recording import Activation, check_once, check_tap, child, in_order


def from_nnx(
    module: nnx.Module,
    layers: Sequence[str],
    *,
    input_size: tuple[int, int] | None = None,
    input_shape: tuple[int, ...] | None = None,
    activation: Activation | None = None,
    **options: Any,
) -> Backbone:
    """A backbone from a Flax NNX module that maps (N, H, W, 3), or other data, to logits.

    Args:
        module: the network; a copy of it runs in inference mode (`eval()`).
        layers: attribute paths of the submodules whose outputs FEM sees, in order, such as "stage1.0.conv2"; a number
            indexes a list. Of a submodule that is called more than once, it is the last output.
        input_size: see `from_function`.
        input_shape: see `from_function`: in place of `input_size`, for data other than photographs.
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
        check_tap(tap, activation)
        network = nnx.merge(graph, params)
        network.eval()
        recorded: dict[str, jax.Array] = {}
        for path in layers:
            _record(network, path, recorded, tap)
        logits = network(inputs)
        return logits, in_order(recorded, layers, activation)

    return from_function(apply, state, input_size=input_size, input_shape=input_shape, **options)


def from_linen(
    module: Any,
    variables: Any,
    layers: Sequence[str],
    *,
    input_size: tuple[int, int] | None = None,
    input_shape: tuple[int, ...] | None = None,
    activation: Activation | None = None,
    arguments: dict[str, Any] | None = None,
    **options: Any,
) -> Backbone:
    """A backbone from a Flax Linen module that maps (N, H, W, 3), or other data, to logits.

    Args:
        module: the network.
        variables: what `module.init` returned, trained.
        layers: paths of the submodules whose outputs FEM sees, in order, such as "ResNetBlock_0/Conv_1".
        input_size: see `from_function`.
        input_shape: see `from_function`: in place of `input_size`, for data other than photographs.
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
        check_tap(tap, activation)

        called: set[str] = set()

        def tapped(call, args, kwargs, context):
            output, path = call(*args, **kwargs), "/".join(context.module.path)
            if context.method_name != "__call__" or path not in layers:
                return output
            check_once(path, called, tap)
            called.add(path)
            return tap(path, output)

        with linen.intercept_methods(tapped):
            logits, state = module.apply(
                variables, inputs, capture_intermediates=True, mutable=["intermediates"], **(arguments or {})
            )
        return logits, in_order(dict(_calls(state["intermediates"])), layers, activation)

    return from_function(apply, variables, input_size=input_size, input_shape=input_shape, **options)


class _Recorder:
    """Stands in for a submodule during one call and notes its output."""

    def __init__(self, module: Any, path: str, recorded: dict[str, jax.Array], tap: Tap):
        self.module, self.path, self.recorded, self.tap = module, path, recorded, tap

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        check_once(self.path, self.recorded, self.tap)
        output = self.recorded[self.path] = self.tap(self.path, self.module(*arguments, **keywords))
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


def _record(network: nnx.Module, path: str, recorded: dict[str, jax.Array], tap: Tap) -> None:
    """Puts a recorder in the place of the submodule at `path`."""
    *parents, leaf = path.split(".")
    parent: Any = network
    for part in parents:
        parent = child(parent, part, path)
    recorder = _Recorder(child(parent, leaf, path), path, recorded, tap)
    if leaf.isdigit():
        parent[int(leaf)] = recorder
    else:
        setattr(parent, leaf, recorder)


def _calls(intermediates: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, output of its last call) of every submodule that Linen captured."""
    for name, value in intermediates.items():
        if name == "__call__":
            yield path, value[-1]
        elif isinstance(value, dict):
            yield from _calls(value, f"{path}/{name}" if path else name)
