"""`small_cnn`: the network of recordings that is trained here, as a backbone out of the folder of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mlfem_jax.backbones.adapters import from_function
from mlfem_jax.backbones.base import Backbone
from mlfem_jax.backbones.files.about import read_about
from mlfem_jax.backbones.files.fit import check_values, check_weights
from mlfem_jax.backbones.files.read import read_weights
from mlfem_jax.backbones.networks import small
from mlfem_jax.backbones.preprocess import unit_numbers

SMALL = "small_cnn"
SUMMARY = "three convolutions over recordings of any shape, which `mlfem train classifier` trains"


def load_small(weights: str | Path | None) -> Backbone:
    """See `load_backbone`.

    Args:
        weights: the folder of a run of `mlfem train classifier`.

    Raises:
        ValueError: it is none, or one of another network; it is damaged.
    """
    if weights is None or weights == "random":
        raise ValueError(f"weights: expected the folder of a run of `mlfem train classifier`, got {weights or 'none'}")
    about = read_about(weights)
    if about.backbone != SMALL or not about.input_shape:
        raise ValueError(f"{weights}: expected a run of {SMALL}, got {about.backbone or 'another file'}")
    arrays, shapes = read_weights(weights), flat(small.shapes(about.input_shape, len(about.labels)))
    check_weights(arrays, shapes, source=Path(weights))
    check_values(arrays, shapes, source=Path(weights))
    params: dict[str, dict[str, Any]] = {}
    for name, values in arrays.items():
        layer, _, leaf = name.partition(".")
        params.setdefault(layer, {})[leaf] = jnp.asarray(values)
    return from_function(
        small.apply,
        params,
        input_shape=about.input_shape,
        preprocess=unit_numbers,
        labels=about.labels,
        output=about.output or "softmax",
        grids=small.grids(len(about.input_shape) - 1),
        signs="as_is",  # all of its layers follow a ReLU
        name=SMALL,
    )


def flat(params: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Parameters, or their shapes, by names with dots, as they are written.

    Example:
        >>> flat({"fc": {"bias": (3,)}})
        {'fc.bias': (3,)}
    """
    return {f"{layer}.{leaf}": value for layer, own in params.items() for leaf, value in own.items()}


def state_dict_of(params: Any) -> dict[str, np.ndarray]:
    """The arrays that are written."""
    return {name: np.asarray(value) for name, value in flat(params).items()}
