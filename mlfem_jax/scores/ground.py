"""What maps are compared with: the gaze on an image, in the frame of the network's input or the photograph's own.

The photograph's own frame is a canvas as large as the largest photograph of the data set; each lies in its upper left
corner, and the rest of the canvas does not exist for any metric (`Gaze.content_box`). So every shape is static.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

from mlfem_jax.data import Batch
from mlfem_jax.gaze import count_density, fit, gaze_density
from mlfem_jax.metrics import fixation_counts
from mlfem_jax.scores.columns import Gaze
from mlfem_jax.scores.plan import Plan


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Looks:
    """Where people looked at one image, in one frame; or with a leading axis of a batch.

    Of recordings there are other axes than (y, x), and events in place of fixations.

    Attributes:
        fixations: as (y, x), in pixels of the frame.
        mask: False for padding.
        observers: who made each; -1 for unknown.
        sigma_px: of the GFDM along (y, x).
        content_box: the pixels that exist.
        size: (height, width) of the photograph in the frame.
        place: (scale along y, along x, shift along y, along x) that brings a map of the network's input there.
    """

    fixations: Float[Array, "*N n axes"]
    mask: Bool[Array, "*N n"]
    observers: Int[Array, "*N n"]
    sigma_px: Float[Array, "*N axes"]
    content_box: Int[Array, "*N sides"]
    size: Int[Array, "*N axes"]
    place: Float[Array, "*N sides"]


def looks_in_input(batch: Batch, plan: Plan) -> dict[str, np.ndarray]:
    """The fields of `Looks` in the frame of the network's input, on the host."""
    count, axes = len(batch.ids), batch.fixations.shape[2]
    frame = np.array(batch.images.shape[1 : 1 + axes])
    return {
        "fixations": batch.fixations,
        "mask": batch.fixation_mask,
        "observers": batch.observers,
        "sigma_px": np.asarray(plan.sigma_px, np.float32) * batch.scale,
        "content_box": _boxes(batch, plan) if plan.bars else batch.content_box,
        "size": np.broadcast_to(frame, (count, axes)).astype(np.int32),
        "place": np.tile(np.array([1] * axes + [0] * axes, np.float32), (count, 1)),
    }


def looks_in_photo(batch: Batch, plan: Plan) -> dict[str, np.ndarray]:
    """The fields of `Looks` in the photograph's own frame, on the host."""
    start = _boxes(batch, plan)[:, :2].astype(np.float32)
    whole = np.concatenate([np.zeros_like(batch.size), batch.size], axis=1).astype(np.int32)
    moved = (batch.fixations + 0.5 - start[:, None]) / batch.scale[:, None] - 0.5
    return {
        # Rounded to a thousandth of a pixel: the way into the network's frame and back moves them by less.
        "fixations": np.round(moved, 3).astype(np.float32),
        "mask": batch.fixation_mask,
        "observers": batch.observers,
        "sigma_px": np.full((len(batch.ids), 2), plan.sigma_px, np.float32),
        "content_box": whole if plan.bars else batch.photo_box,
        "size": batch.size,
        "place": np.concatenate([1 / batch.scale, -start / batch.scale], axis=1).astype(np.float32),
    }


def _boxes(batch: Batch, plan: Plan) -> np.ndarray:
    """Where each photograph lies in the frame of the network's input."""
    frame = batch.images.shape[1], batch.images.shape[2]
    sizes = np.maximum(batch.size, 1)  # padding has none
    return np.array([fit((int(h), int(w)), frame, rule=plan.rule) for h, w in sizes], np.int32)


def gaze_on(looks: Looks, mask: Bool[Array, " n"], totals: Int[Array, "*S"]) -> Gaze:
    """The gaze on one image, by the fixations of `mask`, among those on all images together, counted in its frame."""
    others = totals - fixation_counts(looks.fixations, totals.shape, mask=mask)
    others = jnp.maximum(others, 0)  # photographs of many sizes: a fixation may be rounded to the pixel beside
    return Gaze(
        density=gaze_density(looks.fixations, totals.shape, sigma_px=looks.sigma_px, mask=mask),
        fixations=looks.fixations,
        mask=mask,
        content_box=looks.content_box,
        others=others,
        prior=count_density(others, sigma_px=looks.sigma_px),
        sigma_px=looks.sigma_px,
    )


def counts_on_photo(totals: Int[Array, "H W"], size: Int[Array, " 2"]) -> Int[Array, "H W"]:
    """Counts of the whole canvas, pixel by pixel, on a photograph of `size` in its corner; those of its size stay."""

    def moves(length: int, own: Array) -> Float32[Array, "n n"]:
        place = ((2 * jnp.arange(length) + 1) * own) // (2 * length)
        return (jnp.arange(length)[:, None] == place[None]).astype(jnp.float32)

    rows, columns = (moves(length, own) for length, own in zip(totals.shape, size, strict=True))
    exact = jax.lax.Precision.HIGHEST
    moved = jnp.matmul(jnp.matmul(rows, totals.astype(jnp.float32), precision=exact), columns.T, precision=exact)
    return jnp.round(moved).astype(totals.dtype)


def place_maps(maps: Float[Array, "rows ..."], looks: Looks, shape: tuple[int, ...]) -> Float32[Array, "rows ..."]:
    """Maps of the network's input in the frame where they are compared; bilinear, constant ones zeros.

    Recordings are compared in the input alone.
    """
    maps = maps.astype(jnp.float32)
    if shape == maps.shape[1:]:
        return maps
    scale, shift = looks.place[:2], looks.place[2:]
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)

    def placed(importance):
        return jax.image.scale_and_translate(
            importance, shape, (0, 1), scale, shift, "linear", antialias=False, precision=jax.lax.Precision.HIGHEST
        )

    return jnp.where(high > low, jax.vmap(placed)(maps), jnp.where(low == high, 0.0, jnp.nan))
