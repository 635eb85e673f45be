"""Whether the arrays of a file are those of a network: by name, by shape and by value."""

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlfem_jax.files import is_floating, printable, shown

_LISTED = 10
_SUGGESTED = 3
_COMPARED = 300
_DEPTH = 8  # dots in a name before which a prefix may end


def check_weights(found: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], *, source: str | Path) -> None:
    """Nothing where `found` has exactly the arrays that a network expects; else one error that lists all.

    Entries called `num_batches_tracked`, a counter of torch's training, are ignored, and so are single numbers.

    Args:
        found: arrays by name, as `read_weights` returns them.
        expected: the shape of each array that the network needs, by name.
        source: the file, for the message.

    Raises:
        ValueError: names the missing, the extra and the misshapen entries, the first ten of each kind, and extra names
            that are nearly those of missing ones.

    Example:
        >>> check_weights({"fc.weight": np.ones((2, 3))}, {"fc.weight": (2, 3)}, source="a.npz")
        >>> check_weights({"w": np.ones(2)}, {"w": (3,), "b": (3,)}, source="a.npz")
        Traceback (most recent call last):
        ValueError: a.npz: expected the network's arrays, got others:
          1 missing: b
          1 of another shape: w (expected (3,), got (2,))
    """
    extra = [name for name, array in found.items() if name not in expected and not _is_counter(name, array)]
    misshapen = [
        f"{name} (expected {shape}, got {found[name].shape})"
        for name, shape in expected.items()
        if name in found and found[name].shape != tuple(shape)
    ]
    missing = [name for name in expected if name not in found]
    kinds = {
        "missing": missing,
        "not expected": extra,
        "of another shape": misshapen,
        "nearly the same": _nearly(missing, extra),
    }
    lines = [f"\n  {len(names)} {kind}: {_listing(names)}" for kind, names in kinds.items() if names]
    if lines:
        raise ValueError(f"{source}: expected the network's arrays, got others:{''.join(lines)}")


def check_values(arrays: Mapping[str, np.ndarray], names: Collection[str], *, source: str | Path) -> None:
    """Nothing where arrays can be a network's: finite fractions in float32, and no variance below zero.

    Args:
        arrays: by name.
        names: of those that the network takes; a variance is called "running_var".
        source: the file, for the message.

    Raises:
        ValueError: says which arrays, and how many of their values.

    Example:
        >>> check_values({"fc.bias": np.array([1, np.nan, np.inf])}, ["fc.bias"], source="a.npz")
        Traceback (most recent call last):
        ValueError: a.npz: expected finite numbers, got 2 of 3 NaN or infinite in fc.bias
    """
    faults = []
    for name in names:
        array = arrays[name]
        if not is_floating(array.dtype):
            raise ValueError(
                f"{source}: expected fractions, got {array.dtype} in {name}; quantized weights are not read"
            )
        with np.errstate(over="ignore"):
            values = np.asarray(array, np.float32)
        odd = values.size - int(np.isfinite(values).sum())
        if odd:
            faults.append(f"{odd} of {values.size} NaN or infinite in {name}")
        negative = int((values < 0).sum()) if name.endswith("running_var") else 0
        if negative:
            faults.append(f"{negative} of {values.size} variances below zero in {name}")
    if faults:
        raise ValueError(f"{source}: expected finite numbers, got {_listing(faults)}")


def without_prefix(
    arrays: Mapping[str, Any], expected: Collection[str], *, rename: Callable[[str], str] = str
) -> dict[str, Any]:
    """The arrays under the network's own names, where a checkpoint has it as a part ("model.", "backbone.net.").

    The prefix is the one behind which most of the expected names stand. What has another prefix belongs to other parts
    and is left out; expected names without a prefix (a head beside "backbone.") are kept.

    Args:
        arrays: by name.
        expected: names that the network needs.
        rename: from a name without prefix to that which is expected, where files call the same array in several ways.

    Returns:
        The arrays, as they are where no prefix helps.

    Raises:
        ValueError: two parts are as much of the network.

    Example:
        >>> without_prefix({"model.fc.weight": 1, "model.fc.bias": 2, "loss.weight": 3}, ["fc.weight", "fc.bias"])
        {'fc.weight': 1, 'fc.bias': 2}
    """
    wanted = frozenset(expected)
    counts = Counter(prefix for name in arrays for prefix in _prefixes(name) if rename(name[len(prefix) :]) in wanted)
    if not counts or counts[""] == max(counts.values()):
        return dict(arrays)
    prefix, most = counts.most_common(1)[0]
    apart = (other for other in counts if not other.startswith(prefix) and not prefix.startswith(other))
    rival = next((other for other in apart if counts[other] == most), None)
    if rival is not None and 2 * most > len(wanted):
        both = f"{shown(prefix)!r} and {shown(rival)!r}"
        raise ValueError(f"expected one network that fits, got two, under {both}; save one of them alone")
    plain = {name: array for name, array in arrays.items() if rename(name) in wanted}
    part = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    return plain | part


def _prefixes(name: str) -> list[str]:
    parts = name.split(".", _DEPTH)
    return ["".join(f"{part}." for part in parts[:depth]) for depth in range(len(parts))]


def _is_counter(name: str, array: Any) -> bool:
    return name.rpartition(".")[2] == "num_batches_tracked" or np.shape(array) == ()


def _nearly(missing: Sequence[str], extra: Sequence[str]) -> list[str]:
    """Lines "missing is perhaps extra" of the first missing names that have a likeness among the extra ones."""
    candidates = [name for name in extra[:_COMPARED] if len(name) < 200]
    likeness = {name: difflib.get_close_matches(name, candidates, 1, 0.75) for name in missing[:_LISTED]}
    return [f"{name} is perhaps {close[0]}" for name, close in likeness.items() if close][:_SUGGESTED]


def _listing(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(printable(name, 200) for name in names[:_LISTED]) + (f", and {more} more" if more > 0 else "")
