"""What every kind of data is brought to: a network, examples of it, and where the event of each is."""

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from mlfem_jax import Backbone, gaze_density
from mlfem_jax.attribution import methods_on
from mlfem_jax.metrics import box_mask

NEED_RULES = ("guided_backprop", "deconvnet", "lrp")
"""What only networks with exchangeable backward rules lend themselves to: none of these has them."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of data.

    Attributes:
        name: for people.
        trained: the network.
        untrained: the same with other parameters.
        examples: (N, *S) or (N, *S, C).
        targets: (N,) the class that is explained.
        masks: (N, *S) True where the event is; of a film (N, T).
        events: (N, *S) the event maps; of a film (N, T).
        methods: name in the table to name and options of the method.
        accuracy: share of the examples in whose class the network agrees.
        profile: only the course over the first axis is judged, the mean over the others.
        timed: what each method costs is measured.
    """

    name: str
    trained: Backbone
    untrained: Backbone
    examples: np.ndarray
    targets: Int[np.ndarray, " N"]
    masks: Bool[np.ndarray, "N ..."]
    events: Float[np.ndarray, "N ..."]
    methods: Mapping[str, tuple[str, dict[str, Any]]]
    accuracy: float
    profile: bool = False
    timed: bool = True


def event_maps(
    starts: Int[np.ndarray, "N axes"], lengths: Sequence[int], shape: tuple[int, ...]
) -> tuple[Bool[np.ndarray, "N ..."], Float[np.ndarray, "N ..."]]:
    """Masks of boxes, one an example, and event maps: a Gaussian on each, of a quarter of its length."""
    boxes = np.concatenate([starts, starts + np.asarray(lengths)], axis=1)
    masks = jax.vmap(lambda box: box_mask(box[None], shape))(jnp.asarray(boxes))
    centers = starts + (np.asarray(lengths) - 1) / 2
    sigma = jnp.asarray(lengths, jnp.float32) / 4
    events = jax.vmap(lambda center: gaze_density(center[None], shape, sigma_px=sigma))(jnp.asarray(centers))
    return np.asarray(masks), np.asarray(events)


def all_methods(
    backbone: Backbone, options: Mapping[str, dict[str, Any]], *, leave_out: Sequence[str] = ()
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every method that the network lends itself to, under its own name."""
    names = [name for name in methods_on(backbone) if name not in (*NEED_RULES, *leave_out)]
    return {name: (name, dict(options.get(name, {}))) for name in names}


def agreement(backbone: Backbone, examples: np.ndarray, targets: np.ndarray) -> float:
    """The share of the examples of which the network predicts the target."""
    logits, _ = jax.jit(backbone.apply)(backbone.params, backbone.preprocess(examples))
    return float(np.mean(np.asarray(logits).argmax(axis=1) == targets))


def package_folder(package: str, distribution: str) -> Path:
    """The folder of an installed package, which is not imported.

    Raises:
        ValueError: it is not installed; says what to do.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ValueError(
            f"{package}: expected the package {distribution}, got none; pip install --no-deps {distribution}"
        )
    return Path(found.origin).parent
