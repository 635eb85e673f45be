"""A small convolutional network over any number of axes, trained on the spot."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mlfem_jax import Backbone, Grid, from_function

_AXES = {1: ("NHC", "HIO", "NHC"), 3: ("NDHWC", "DHWIO", "NDHWC")}
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
"""(generator, number) to examples (N, *S, C) and their classes."""


def small_backbone(
    shape: tuple[int, ...], *, kernel: int, widths: Sequence[int], strides: Sequence[int], classes: int, seed: int
) -> Backbone:
    """Convolutions without padding, each with a ReLU, and a dense layer on the mean over positions; not trained.

    Args:
        shape: (*S, C) of one example.
        kernel: length of every kernel along every axis.
        widths: channels of each layer.
        strides: of each layer.
        classes: number of logits.
        seed: of the parameters.
    """
    axes, draw = len(shape) - 1, np.random.default_rng(seed)
    names = [f"conv{number}" for number in range(1, len(widths) + 1)]
    params, grids, grid, before = {}, {}, Grid.of_input(axes), shape[-1]
    for name, width, stride in zip(names, widths, strides, strict=True):
        scale = np.sqrt(2 / (kernel**axes * before))
        kernels = draw.normal(0, scale, (kernel,) * axes + (before, width)).astype(np.float32)
        params[name] = {"kernel": kernels, "bias": np.zeros(width, np.float32)}
        grids[name] = grid = grid.behind(kernel, stride=stride)
        before = width
    params["head"] = {"kernel": draw.normal(0, before**-0.5, (before, classes)).astype(np.float32)}

    def apply(params, inputs, *, tap=lambda name, activation: activation):
        features, activations = inputs, OrderedDict()
        for name, stride in zip(names, strides, strict=True):
            features = jax.lax.conv_general_dilated(
                features, params[name]["kernel"], (stride,) * axes, "VALID", dimension_numbers=_AXES[axes]
            )
            bias = params[name]["bias"].reshape(*[1] * (axes + 1), -1)
            features = activations[name] = tap(name, jax.nn.relu(features + bias))
        return features.mean(axis=tuple(range(1, axes + 1))) @ params["head"]["kernel"], activations

    params = jax.tree.map(jnp.asarray, params)
    return from_function(apply, params, input_shape=shape, signs="as_is", grids=grids, name="small")


def trained(backbone: Backbone, draw: Draw, *, steps: int, batch_size: int, seed: int) -> Any:
    """The parameters after so many steps of Adam on examples that are drawn anew for each."""
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    @jax.jit
    def step(params, state, examples, classes):
        def loss(params):
            logits, _ = backbone.apply(params, examples)
            return optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params, generator = backbone.params, np.random.default_rng(seed)
    state = optimizer.init(params)
    for _ in range(steps):
        params, state, _ = step(params, state, *draw(generator, batch_size))
    return params
