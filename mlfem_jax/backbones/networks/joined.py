"""Arrays that some files keep apart and others as one: queries, keys and values; the two factors of a gated MLP."""

import re
from collections.abc import Mapping

import numpy as np


def joined(
    arrays: Mapping[str, np.ndarray], wholes: Mapping[str, tuple[str, ...]], *, inside: str
) -> dict[str, np.ndarray]:
    """The state dict with the parts one behind the other.

    Args:
        arrays: by their names.
        wholes: name of a module to those of its parts, which lie beside each other, in order.
        inside: a regular expression for the name of the module that they lie in.

    Returns:
        All entries; parts of which one is missing, or of another shape, stay as they are.

    Example:
        >>> found = joined({"a.q.bias": np.zeros(2), "a.k.bias": np.ones(2)}, {"qk": ("q", "k")}, inside="a")
        >>> found["a.qk.bias"].tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    found = dict(arrays)
    for name in arrays:
        module, _, leaf = name.rpartition(".")
        module, _, part = module.rpartition(".")
        for whole, parts in wholes.items():
            names = [f"{module}.{piece}.{leaf}" for piece in parts]
            if part != parts[0] or not re.match(inside, module) or not all(piece in arrays for piece in names):
                continue
            pieces = [arrays[piece] for piece in names]
            if all(piece.ndim and piece.shape == pieces[0].shape for piece in pieces):
                found = {other: array for other, array in found.items() if other not in names}
                found[f"{module}.{whole}.{leaf}"] = np.concatenate(pieces)
    return found
