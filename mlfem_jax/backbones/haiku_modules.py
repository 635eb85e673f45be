"""Haiku networks as backbones: the outputs of modules, by Haiku's own names, are the activations."""

from collections.abc import Sequence
from typing import Any

import jax

from mlfem_jax.backbones.adapters import from_function
from mlfem_jax.backbones.base import Backbone
from mlfem_jax.backbones.hooks import no_tap
from mlfem_jax.backbones.recording import Activation, check_once, check_tap, in_order


def from_haiku(
    transformed: Any,
    params: Any,
    layers: Sequence[str],
    *,
    input_size: tuple[int, int],
    state: Any = None,
    activation: Activation | None = None,
    arguments: dict[str, Any] | None = None,
    **options: Any,
) -> Backbone:
    """A backbone from a Haiku network that maps (N, H, W, 3) to logits.

    Args:
        transformed: what `hk.transform` or `hk.transform_with_state` returned.
        params: what its `init` returned, trained.
        layers: names of the modules whose outputs FEM sees, in order, as they stand in `params`: "conv2_d_1",
            "res_net50/~/initial_conv".
        input_size: see `from_function`.
        state: of a network with one (batch norm); it is not changed.
        activation: see `from_nnx`.
        arguments: further keyword arguments of the call, such as `{"is_training": False}`.
        **options: see `from_function`.

    Returns:
        The backbone, with a gradient at every layer.

    Raises:
        ValueError: a module that is not called, naming those that are; as `from_function`.

    Example:
        >>> import haiku as hk
        >>> net = hk.transform(lambda x: jax.nn.relu(hk.Conv2D(4, 3)(x)).mean((1, 2)))
        >>> params = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        >>> from_haiku(net, params, ["conv2_d"], input_size=(8, 8), activation=jax.nn.relu).layers
        ('conv2_d',)
    """
    import haiku as hk

    def apply(variables, inputs, *, tap=no_tap):
        check_tap(tap, activation)
        recorded: dict[str, jax.Array] = {}

        def hear(call, arguments, keywords, context):
            output, name = call(*arguments, **keywords), context.module.module_name
            if context.method_name != "__call__" or not isinstance(output, jax.Array):
                return output
            if name in layers:
                check_once(name, recorded, tap)
                output = tap(name, output)
            recorded[name] = output
            return output

        params, state = variables
        before = (params,) if state is None else (params, state)
        with hk.intercept_methods(hear):
            outputs = transformed.apply(*before, None, inputs, **(arguments or {}))
        return outputs if state is None else outputs[0], in_order(recorded, layers, activation)

    return from_function(apply, (params, state), input_size=input_size, **options)
