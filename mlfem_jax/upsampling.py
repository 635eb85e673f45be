"""Where the positions of a layer lie in the input, and maps brought to its resolution."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where the positions of a layer lie in the input: along each axis, position i at sample offset + i stride.

    Samples (pixels, frames, voxels) are counted from 0, and a position lies at the center of what it sees. Where
    nothing is said of a layer, its positions are taken to cover the input evenly: stride = samples / positions, offset
    = (stride - 1) / 2. That is so with padding, as images have it; without ("valid"), the positions begin half a kernel
    inside the input.

    Attributes:
        stride: samples from one position to the next, one number for each spatial axis.
        offset: sample of the first position, likewise; below 0 where padding moved it there.

    Raises:
        ValueError: not one offset for each stride, a stride that is not above 0, or a number that is not finite.

    Example:
        >>> Grid.of_input(1).behind(8, stride=4).behind(3)
        Grid(stride=(4.0,), offset=(7.5,))
    """

    stride: tuple[float, ...]
    offset: tuple[float, ...]

    def __post_init__(self) -> None:
        """Checks the numbers."""
        finite = all(map(math.isfinite, (*self.stride, *self.offset)))
        if not finite or len(self.stride) != len(self.offset) or min(self.stride, default=0) <= 0:
            raise ValueError(
                f"grid: expected a stride above 0 and an offset for each axis, got {self.stride} and {self.offset}"
            )

    @classmethod
    def of_input(cls, axes: int) -> "Grid":
        """That of the input itself, with so many spatial axes."""
        return cls((1.0,) * axes, (0.0,) * axes)

    def behind(
        self,
        kernel: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
    ) -> "Grid":
        """The grid of a convolution, or a pool, over this one.

        Args:
            kernel: its length; one number for all axes, or one for each.
            stride: likewise.
            padding: likewise, how many positions are put before the first.
            dilation: likewise.
        """

        def each(number: int | Sequence[int]) -> Sequence[int]:
            return (number,) * len(self.stride) if isinstance(number, int) else number

        sides = list(zip(each(kernel), each(stride), each(padding), each(dilation), strict=True))
        first = [(length - 1) * spread / 2 - before for length, _, before, spread in sides]
        return Grid(
            tuple(own * step for own, (_, step, _, _) in zip(self.stride, sides, strict=True)),
            tuple(start + own * to for own, start, to in zip(self.stride, self.offset, first, strict=True)),
        )


def upsample(importance: Float[Array, "*S"], shape: tuple[int, ...], *, grid: Grid | None = None) -> Float[Array, "*T"]:
    """The map resized by linear interpolation between half-pixel centers, edges repeated.

    Position i of n output samples lies at (i + 0.5) m / n - 0.5 on an axis of m input samples, as in
    `jax.image.resize` and in PyTorch with `align_corners=False`. Making a map smaller samples it without
    anti-aliasing.

    Args:
        importance: importance map with any number of spatial axes, of any scale.
        shape: the size wanted, one number for each axis of `importance`.
        grid: where in `shape` the positions of `importance` lie; None: they cover it evenly.

    Returns:
        `shape`, same dtype, within the range of `importance`.

    Raises:
        ValueError: `shape`, or `grid`, has not one positive number for each axis of `importance`.

    Source:
        The paper, section 2.1 (linear interpolation).

    Example:
        >>> upsample(jnp.array([0.0, 1.0]), (4,))
        Array([0.  , 0.25, 0.75, 1.  ], dtype=float32)
        >>> upsample(jnp.array([0.0, 1.0]), (4,), grid=Grid((2.0,), (1.0,)))
        Array([0. , 0. , 0.5, 1. ], dtype=float32)
    """
    if grid is not None and len(grid.stride) != importance.ndim:
        raise ValueError(f"grid: expected {importance.ndim} axes, those of the map, got {len(grid.stride)}")
    if len(shape) != importance.ndim or min(shape, default=1) < 1 or 0 in importance.shape:
        raise ValueError(
            f"shape: expected {importance.ndim} positive sizes for a map of shape {importance.shape}, got {shape}"
        )
    for axis, (length, size) in enumerate(zip(importance.shape, shape, strict=True)):
        samples = np.arange(size)
        if grid is not None:
            places = (samples - grid.offset[axis]) / grid.stride[axis]
        else:
            places = (samples + 0.5) * length / size - 0.5
        if size != length or (places != samples).any():
            importance = _interpolate(importance, axis, places)
    return importance


def _interpolate(importance: Float[Array, "*S"], axis: int, places: np.ndarray) -> Float[Array, "*T"]:
    """Linear interpolation along one axis: a product with a narrow matrix, or gathers.

    A GPU's compiler fuses gathers into whatever reads the map, which a product writes; a TPU's writes both, and its
    gathers several times. On a CPU the choice itself keeps XLA from fusing the product into what follows: `add` on
    EfficientNet-Lite0 is 1.4 times as fast with it.
    """
    product = functools.partial(_interpolate_by_product, axis=axis, places=places)
    # The default precision of a TPU (bfloat16) is wrong in the third digit.
    exact = functools.partial(product, precision=jax.lax.Precision.HIGHEST)
    gathers = functools.partial(_interpolate_by_gathers, axis=axis, places=places)
    return jax.lax.platform_dependent(importance, cpu=product, tpu=exact, default=gathers)


def _interpolate_by_product(
    importance: Float[Array, "*S"], *, axis: int, places: np.ndarray, precision: jax.lax.Precision | None = None
) -> Float[Array, "*T"]:
    below, above, weight = _neighbors(importance.shape[axis], places)
    matrix = np.zeros((len(below), importance.shape[axis]))
    np.add.at(matrix, (np.arange(len(below)), below), 1 - weight)
    np.add.at(matrix, (np.arange(len(below)), above), weight)
    factor = jnp.asarray(matrix, importance.dtype)
    return jnp.moveaxis(jnp.tensordot(factor, importance, axes=(1, axis), precision=precision), 0, axis)


def _interpolate_by_gathers(importance: Float[Array, "*S"], *, axis: int, places: np.ndarray) -> Float[Array, "*T"]:
    below, above, weight = _neighbors(importance.shape[axis], places)
    low, high = jnp.take(importance, below, axis=axis), jnp.take(importance, above, axis=axis)
    along = weight.reshape([-1 if index == axis else 1 for index in range(importance.ndim)])
    return low + jnp.asarray(along, importance.dtype) * (high - low)


def _neighbors(length: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two of `length` positions around each place, and the weight of the second; edges are repeated."""
    position = np.clip(places, 0, length - 1)
    below = np.minimum(position.astype(np.int32), max(length - 2, 0))
    return below, np.minimum(below + 1, length - 1), position - below
