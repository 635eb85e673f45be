"""The vision transformers in their training form: a tower, and a class head that reads what it pools.

What is trained is the state dict itself, by timm's names, so that it goes back into a file as it is. A tower has no
running statistics.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlfem_jax.backbones.networks import vit, vit_names
from mlfem_jax.backbones.towers import TOWERS, Tower, random_arrays, tower_arrays, tower_file

_DEVIATION = 0.02  # of a fresh head's weights, as of a vision transformer's before training


def trainable_tower(name: str) -> Tower:
    """The tower of a name.

    Raises:
        ValueError: its head is a part of it, and projects to an embedding.
    """
    tower = TOWERS[name]
    if tower.embeds:
        raise ValueError(
            f"name: expected a tower that a class head can be put on, such as dinov2_vits14, got {name!r}, whose own "
            "projects to an embedding"
        )
    return tower


def apply_tower(
    tower: Tower, params: Any, statistics: Any, inputs: Float[Array, "N H W 3"], *, running: bool = False
) -> tuple[Float[Array, "N classes"], Any]:
    """See `Classifier.apply`."""
    arrays = tower_state_dict(params)
    config = vit_names.fitted(tower.config, arrays)
    cast = jax.tree.map(lambda leaf: leaf.astype(inputs.dtype), vit_names.to_params(config, arrays))
    return vit.forward(config, cast, inputs)[0], statistics


def initial_tower(name: str, classes: int, weights: str | Path | None, seed: int) -> dict[str, Any]:
    """The parameters before training, see `initial_weights`: {"tower": state dict, "head": state dict}."""
    tower = trainable_tower(name)
    if weights == "random":
        arrays = random_arrays(tower.config, seed)
    else:
        file, _ = tower_file(name, weights)
        arrays = tower_arrays(tower, file, packaged=weights is None, classes=classes)
    head = {leaf: arrays.pop(f"head.{leaf}") for leaf in ("weight", "bias") if f"head.{leaf}" in arrays}
    if not head:
        width = tower.config.width * (2 if tower.config.pool == "cls_mean" else 1)
        head["weight"] = _DEVIATION * np.random.default_rng(seed).standard_normal((classes, width), np.float32)
    head.setdefault("bias", np.zeros(classes, np.float32))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), {"tower": arrays, "head": head})


def tower_state_dict(params: Any) -> dict[str, Any]:
    """Tower and head as one state dict."""
    return {**params["tower"], **{f"head.{leaf}": array for leaf, array in params["head"].items()}}
