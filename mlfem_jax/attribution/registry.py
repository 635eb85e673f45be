"""The registry: every name that `explain(method=...)` accepts, by family.

To add a method, write a function `maps(forward, *, option=default, ...)` in its family's file in `attribution/` and
name it in that file's `METHODS`.
"""

import dataclasses
import inspect
import math
from collections.abc import Hashable

from jaxtyping import Array, Float

from mlfem_jax.attribution import (
    ablation,
    attention,
    cam,
    full_grad,
    gradient,
    guided_cam,
    learned as net,
    lrp,
    mlfem as multilayer,
    paths,
    perturbation,
    reference,
    regions,
    rescale,
)
from mlfem_jax.attribution.base import Entry
from mlfem_jax.backbones import Backbone, Forward

FAMILIES: dict[str, dict[str, Entry]] = {
    "FEM and MLFEM": multilayer.METHODS | net.METHODS,
    "Class activation maps": cam.METHODS | ablation.METHODS | guided_cam.METHODS,
    "Gradients and relevance": gradient.METHODS
    | paths.METHODS
    | regions.METHODS
    | full_grad.METHODS
    | rescale.METHODS
    | lrp.METHODS,
    "Attention": attention.METHODS,
    "Perturbations": perturbation.METHODS,
    "References": reference.METHODS,
}
"""Name of each family to its methods by name."""
METHODS: dict[str, Entry] = {name: method for family in FAMILIES.values() for name, method in family.items()}
"""Every method by name, family by family."""


def methods() -> tuple[str, ...]:
    """Names that `explain(method=...)` accepts.

    Returns:
        The names, family by family.

    Example:
        >>> methods()[:3]
        ('fem', 'max', 'add')
    """
    return tuple(METHODS)


def methods_on(backbone: Backbone) -> tuple[str, ...]:
    """Names of the methods that a network lends itself to.

    Those that read attention need some; the fusion that was trained on gaze, and what reads colors, need photographs.
    """
    of_photos = () if backbone.photos else (*net.METHODS, *regions.METHODS, "expected_gradients")
    never = (() if backbone.attentions else tuple(attention.METHODS)) + of_photos
    return tuple(name for name in METHODS if name not in never)


@dataclasses.dataclass(frozen=True)
class Method:
    """A method with its options: a function of a `Forward`, equal to any other of the same name and options.

    That equality is what lets a compiled batch be found again.
    """

    name: str
    options: tuple[tuple[str, Hashable], ...]

    def __call__(self, forward: Forward) -> Float[Array, " N *S"]:
        """Importance maps (N, H, W)."""
        return METHODS[self.name].maps(forward, **dict(self.options))


def accepted_options(name: str) -> tuple[str, ...]:
    """The options that a method accepts.

    Raises:
        ValueError: unknown name.

    Example:
        >>> accepted_options("fem")
        ('layers', 'k', 'sign', 'raw')
    """
    if name not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {name!r}")
    maps = METHODS[name].maps
    preset = getattr(maps, "keywords", {})
    parameters = inspect.signature(maps).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in preset)


def method(name: str, **options: Hashable) -> Method:
    """A method with its options, as a function of a `Forward`: for `map_batches`, and for the tests of faithfulness.

    Args:
        name: one of `methods()`.
        **options: those of the method; they have to be hashable, since a compiled batch is found again by them.

    Returns:
        A `Method`: called with a `Forward` over a batch it gives importance maps (N, H, W) in [0, 1]. Two of the same
        name and options are equal.

    Raises:
        ValueError: unknown method, or an option that it does not accept, both list what is accepted; text for a
            number, or one that is NaN or infinite.

    Example:
        >>> method("add", alpha=0.25) == method("add", alpha=0.25)
        True
    """
    accepted = accepted_options(name)
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        among = f"options among {', '.join(accepted)}" if accepted else "no options"
        raise ValueError(f"method {name!r}: expected {among}, got {', '.join(unknown)}")
    defaults = inspect.signature(METHODS[name].maps).parameters
    for option, value in options.items():
        if isinstance(value, str) and isinstance(defaults[option].default, int | float):
            raise ValueError(f"{option}: expected a number, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):  # NaN: a method would not even equal itself
            raise ValueError(f"{option}: expected a finite number, got {value}")
    return Method(name, tuple(sorted(options.items())))
