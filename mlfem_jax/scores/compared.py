"""Every metric of every map against gaze, smoothed in every way, image after image."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mlfem_jax.gaze import fitted_density, gaze_density, smooth_map
from mlfem_jax.metrics import content
from mlfem_jax.scores.columns import METRICS, Column, Gaze
from mlfem_jax.scores.ground import Looks, counts_on_photo, gaze_on, place_maps
from mlfem_jax.scores.plan import Plan

_UNIFORM = 0.01
"""Share of a uniform density in the gold standard: an observer may look where no other one did."""


def gaze_scores(
    plan: Plan,
    maps: Float[Array, "N rows ..."],
    looks: Looks,
    totals: Int[Array, "*S"],
    released: Float[Array, "N h w"] | None,
) -> dict[Column, Float[Array, "N rows"]]:
    """The columns against gaze of all rows, those of people included.

    Args:
        plan: what is scored.
        maps: of the methods, then of people, in the frame of the network's input. Events that are known along its
            first axes alone are compared with the means of the maps over the others: cuts of a film with the course
            over time.
        looks: where people looked, in the frame of the comparison.
        totals: how many fixations each pixel of that frame has on all images of the data set together.
        released: density maps that stand in for the gaze on images without a fixation, in the frame of the input.
    """
    columns = [column for column in plan.columns if METRICS[column.metric].against == "gaze"]
    if not columns:
        return {}
    of_image = functools.partial(_image_scores, plan, columns, totals)
    maps = along_events(maps, totals.ndim)
    images = (maps[:, : len(plan.methods)], looks, released)
    # At the photograph's own size the maps of a whole batch would be gigabytes.
    large = totals.shape != maps.shape[2:]
    scores = jax.lax.map(lambda image: of_image(*image), images) if large else jax.vmap(of_image)(*images)
    return {column: scores[:, :, place] for place, column in enumerate(columns)}


def along_events(maps: Float[Array, "N rows ..."], axes: int) -> Float[Array, "N rows ..."]:
    """The means of maps over the axes behind the first `axes` of an example, which are those of its events."""
    return maps if maps.ndim == 2 + axes else maps.mean(axis=tuple(range(2 + axes, maps.ndim)))


def looked_density(
    looks: Looks, shape: tuple[int, ...], released: Float[Array, "N h w"] | None
) -> Float[Array, " N *S"]:
    """The GFDM of each image of a batch in the frame of the input; where nobody looked, the released density."""
    density = jax.vmap(lambda own: gaze_density(own.fixations, shape, sigma_px=own.sigma_px, mask=own.mask))(looks)
    if released is None:
        return density
    return jnp.where(looks.mask.any(axis=1)[:, None, None], density, released)


def shown_people(
    plan: Plan, looks: Looks, there: Looks, totals: Int[Array, "*S"], density: Float[Array, " N *s"]
) -> list[Float[Array, " N *s"]]:
    """A map for each row of people in the frame of the input, as the network judges it and the report shows it.

    That of the even observers; for the gold standard that of all; and where people look on the other images.

    Args:
        plan: which rows there are.
        looks: where people looked, in the frame of the input.
        there: the same in the frame of the comparison.
        totals: how many fixations each pixel of that frame has on all images together.
        density: the GFDM in the frame of the input.
    """
    shape, axes = density.shape[1:], density.ndim - 1
    even = jax.vmap(lambda own: gaze_density(own.fixations, shape, sigma_px=own.sigma_px, mask=_half(own, 0)))(looks)

    def prior(own):
        here = totals if plan.compare_in == "input" else counts_on_photo(totals, own.size)
        importance = gaze_on(own, own.mask, here).prior
        scale, shift = own.place[:axes], own.place[axes:]
        return jax.image.scale_and_translate(importance, shape, tuple(range(axes)), 1 / scale, -shift / scale, "linear")

    maps = [even] if plan.humans else []
    return maps + ([density, jax.lax.map(prior, there)] if plan.observers else [])


def _half(looks: Looks, half: int) -> Bool[Array, " n"]:
    return looks.mask & (looks.observers >= 0) & (looks.observers % 2 == half)


def _image_scores(
    plan: Plan,
    columns: list[Column],
    totals: Int[Array, "*S"],
    maps: Float[Array, "methods ..."],
    looks: Looks,
    released: Float[Array, "h w"] | None,
) -> Float[Array, "rows columns"]:
    """The scores of all rows of one image."""
    shape = totals.shape
    totals = totals if plan.compare_in == "input" else counts_on_photo(totals, looks.size)
    gaze = gaze_on(looks, looks.mask, totals)
    if released is not None:
        density = place_maps(released[None], looks, shape)[0]
        gaze = dataclasses.replace(gaze, density=jnp.where(looks.mask.any(), gaze.density, density))
    rows = [_map_scores(plan, columns, place_maps(maps, looks, shape), gaze, looks)]
    if plan.humans:
        even, odd = (gaze_on(looks, _half(looks, half), totals) for half in (0, 1))
        # The other images' fixations are those of all observers.
        truth = dataclasses.replace(odd, others=gaze.others, prior=gaze.prior)
        rows.append(_unsmoothed(columns, even.density, truth)[None])
    if plan.observers:
        rows.append(_gold_scores(plan, columns, gaze, looks)[None])
        rows.append(_unsmoothed(columns, gaze.prior, gaze)[None])
    return jnp.concatenate(rows)


def _map_scores(
    plan: Plan, columns: list[Column], maps: Float[Array, "methods ..."], gaze: Gaze, looks: Looks
) -> Float[Array, "methods columns"]:
    smoothed = {
        smoothing: _smoothed(plan, maps, looks, smoothing) for smoothing in dict.fromkeys(c.smoothing for c in columns)
    }
    scores = (jax.vmap(METRICS[metric].function, (0, None))(smoothed[smoothing], gaze) for metric, smoothing in columns)
    return jnp.stack([jnp.asarray(score) for score in scores], axis=1)


def _smoothed(
    plan: Plan, maps: Float[Array, "methods ..."], looks: Looks, smoothing: str
) -> Float[Array, "methods ..."]:
    """The maps as they are, or blurred by the sigma of the GFDM or by a number of pixels of the photograph."""
    if smoothing == "none":
        return maps
    if smoothing == "fit":
        return _fitted(plan, maps, looks)
    sigma = looks.sigma_px if smoothing == "gaze" else looks.sigma_px * _in_sigmas(plan, float(smoothing))
    smooth = functools.partial(smooth_map, sigma_px=sigma, content_box=looks.content_box)
    return jax.vmap(smooth)(maps.astype(jnp.float32))


def _in_sigmas(plan: Plan, pixels: float) -> Any:
    """A number of pixels in sigmas; of recordings along each axis."""
    if isinstance(plan.sigma_px, tuple):
        return jnp.array([pixels / sigma for sigma in plan.sigma_px], jnp.float32)
    return pixels / plan.sigma_px


def _fitted(plan: Plan, maps: Float[Array, "methods H W"], looks: Looks) -> Float[Array, "methods H W"]:
    """Densities of fixations by each method's own fit; constant maps stay as they are."""
    height = looks.size[0].astype(jnp.float32)
    parts = [
        jnp.array([getattr(fit, part) for fit in plan.fits], jnp.float32) for part in ("sigma_px", "curve", "rings")
    ]

    def density(importance, sigma, curve, rings):
        made = fitted_density(importance, (sigma * height, curve, rings), content_box=looks.content_box)
        return jnp.where(importance.max() > importance.min(), made, importance)

    return jax.vmap(density)(maps.astype(jnp.float32), *parts)


def _unsmoothed(columns: list[Column], importance: Float[Array, "*S"], gaze: Gaze) -> Float[Array, " columns"]:
    """The scores of a density, which is as smooth as the GFDM already, in the columns of every smoothing."""
    of_metric = {
        metric: METRICS[metric].function(importance, gaze) for metric in dict.fromkeys(c.metric for c in columns)
    }
    return jnp.stack([jnp.asarray(of_metric[metric]) for metric, _ in columns])


def _gold_scores(plan: Plan, columns: list[Column], gaze: Gaze, looks: Looks) -> Float[Array, " columns"]:
    """The mean over observers of how well the others' density predicts each of them.

    A Gaussian kernel density estimate by the sigma of the GFDM, with one percent of a uniform density.
    """
    shape = gaze.density.shape
    inside = content(shape, looks.content_box).astype(jnp.float32)
    uniform = inside / jnp.maximum(inside.sum(), 1.0)

    def scores(observer):
        own = looks.mask & (looks.observers == observer)
        rest = looks.mask & (looks.observers >= 0) & ~own
        predicted = gaze_density(looks.fixations, shape, sigma_px=looks.sigma_px, mask=rest)
        alone = gaze_density(looks.fixations, shape, sigma_px=looks.sigma_px, mask=own)
        truth = dataclasses.replace(gaze, density=alone, mask=own)
        mixed = (1 - _UNIFORM) * predicted + _UNIFORM * uniform
        known = own.any() & rest.any()
        return jnp.where(known, _unsmoothed(columns, mixed, truth), jnp.nan)

    return jnp.nanmean(jax.lax.map(scores, jnp.arange(plan.observers)), axis=0)
