"""Equinox modules as backbones: the outputs of submodules, named by their paths, are the activations."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mlfem_jax.backbones.adapters import from_function
from mlfem_jax.backbones.base import Backbone
from mlfem_jax.backbones.hooks import Tap, no_tap
from mlfem_jax.backbones.recording import Activation, check_once, check_tap, child, in_order


def from_equinox(
    module: Any,
    layers: Sequence[str],
    *,
    input_size: tuple[int, int],
    state: Any = None,
    activation: Activation | None = None,
    arguments: dict[str, Any] | None = None,
    **options: Any,
) -> Backbone:
    """A backbone from an Equinox module that maps one image (3, H, W) to logits.

    Args:
        module: the network; it runs in inference mode.
        layers: attribute paths of the submodules whose outputs FEM sees, in order, such as "layers.3" or
            "stage1.conv"; a number indexes a list. Each gives (C, h, w), or that and a state.
        input_size: see `from_function`.
        state: of a module that `eqx.nn.make_with_state` made, which is called with (image, state).
        activation: see `from_nnx`.
        arguments: further keyword arguments of the call.
        **options: see `from_function`.

    Returns:
        The backbone, with a gradient at every layer; its activations are (N, h, w, C).

    Raises:
        ValueError: a path that does not exist, naming what is there; as `from_function`.

    Example:
        >>> import equinox as eqx
        >>> conv = eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(0))
        >>> net = eqx.nn.Sequential([conv, eqx.nn.Lambda(jax.nn.relu), eqx.nn.Lambda(lambda x: x.mean((1, 2)))])
        >>> from_equinox(net, ["layers.1"], input_size=(8, 8)).layers
        ('layers.1',)
    """
    import equinox as eqx

    params, static = eqx.partition((eqx.nn.inference_mode(module), state), eqx.is_array)

    def apply(params, inputs, *, tap=no_tap):
        check_tap(tap, activation)

        def one(image):
            network, state = eqx.combine(params, static)
            recorded: dict[str, jax.Array] = {}
            for path in layers:
                recorder = _Recorder(_node(network, path), path, recorded, tap)
                network = eqx.tree_at(lambda tree, path=path: _node(tree, path), network, recorder)
            outputs = network(image, *(() if state is None else (state,)), **(arguments or {}))
            return outputs if state is None else outputs[0], in_order(recorded, layers, activation)

        logits, activations = jax.vmap(one)(inputs.transpose(0, 3, 1, 2))
        return logits, OrderedDict((name, _channels_last(value)) for name, value in activations.items())

    return from_function(apply, params, input_size=input_size, **options)


class _Recorder:
    """Stands in for a submodule during one call and notes its output."""

    def __init__(self, module: Any, path: str, recorded: dict[str, jax.Array], tap: Tap):
        self.module, self.path, self.recorded, self.tap = module, path, recorded, tap

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        check_once(self.path, self.recorded, self.tap)
        output = self.module(*arguments, **keywords)
        first, *others = output if isinstance(output, tuple) else (output,)
        heard = self.recorded[self.path] = _tapped(first, self.path, self.tap)
        return (heard, *others) if isinstance(output, tuple) else heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


def _tapped(value: jax.Array, path: str, tap: Tap) -> jax.Array:
    """What the tap, which hears a whole batch, makes of one example's (C, h, w)."""

    @jax.custom_batching.custom_vmap
    def heard(value):
        return value

    @heard.def_vmap
    def _of_a_batch(axis_size, in_batched, values):
        return jnp.moveaxis(tap(path, _channels_last(values)), -1, 1), True

    return value if tap is no_tap else heard(value)


def _channels_last(values: jax.Array) -> jax.Array:
    return jnp.moveaxis(values, 1, -1) if values.ndim == 4 else values


def _node(network: Any, path: str) -> Any:
    for part in path.split("."):
        network = child(network, part, path)
    return network
