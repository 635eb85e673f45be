"""What of a network's outputs is explained, where that is not a class: any function of the logits."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LogitFunction:
    """A function of one example's logits, as a target; equal to another of the same function, and hashable.

    Attributes:
        function: pure and differentiable, from logits (classes,) to a number (). Pass the same function object again
            to use what was compiled.

    Example:
        >>> LogitFunction(lambda logits: logits[0] - logits[1])(jnp.array([[5.0, 2.0]]))
        Array([3.], dtype=float32)
    """

    function: Callable[[Float[Array, " classes"]], Float[Array, ""]]

    def __call__(self, logits: Float[Array, "N classes"]) -> Float32[Array, " N"]:
        """The function of each example's logits, in float32."""
        values = jax.vmap(self.function)(logits.astype(jnp.float32))
        if values.ndim != 1:
            raise ValueError(f"target: expected a function of (classes,) to one number, got shape {values.shape[1:]}")
        return values.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Why one class rather than another: the difference of their logits, as a target.

    Attributes:
        for_class: number of the class that is explained.
        against: number of the one that it is compared with.

    Example:
        >>> print(Contrast(2, 0)(jnp.array([1.0, 0.0, 4.0])))
        3.0
    """

    for_class: int
    against: int

    def __call__(self, logits: Float[Array, " classes"]) -> Float[Array, ""]:
        """The difference of the two logits."""
        return logits[self.for_class] - logits[self.against]
