"""XRAI: which regions of the image carry the most attribution for their size."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mlfem_jax.attribution.base import Entry, check_count, finish, need_photos
from mlfem_jax.attribution.gradient import integrated_gradients
from mlfem_jax.backbones import Forward

SCALES = (50, 100, 150, 250, 500, 1200)


def xrai_maps(
    forward: Forward,
    *,
    score: str = "logit",
    steps: int = 50,
    scales: tuple[int, ...] = SCALES,
    min_size_px: int = 150,
    dilation_px: int = 5,
    least_px: int = 50,
    internal_batch_size: int = 64,
    raw: bool = False,
) -> Float[Array, "N H W"]:
    """Regions ranked by the mean of Integrated Gradients in them, from a black and from a white image.

    Regions are scikit-image's Felzenszwalb segments at several scales, computed on the host; see `rank_regions`.

    Args:
        forward: the batch.
        score: see `target.class_score`.
        steps: of each of the two Integrated Gradients.
        scales: of the segments, which grow with them.
        min_size_px: the smallest segment has so many pixels.
        dilation_px: by which segments grow over their edges.
        least_px: see `rank_regions`.
        internal_batch_size: most images in one of the passes (at least the batch).
        raw: the mean attribution of each pixel's region.

    Returns:
        (N, H, W); blank for an image that is all one region.

    Raises:
        ValueError: the network's data are not photographs, no scales, or a number of pixels that is negative.
        ModuleNotFoundError: scikit-image is not installed.

    Source:
        Kapishnikov et al., XRAI (2019), algorithm 1, with the authors' numbers: of the colors the largest attribution
        counts. They cut the image at 224x224 whatever its size, and their baselines are the image's own darkest and
        brightest value.
    """
    need_photos(forward, "xrai")
    check_count("steps", steps)
    check_count("scales", len(scales))
    for name, pixels in (("min_size_px", min_size_px), ("dilation_px", dilation_px), ("least_px", least_px)):
        check_count(name, pixels, 0)
    if importlib.util.find_spec("skimage") is None:
        raise ModuleNotFoundError("xrai needs scikit-image: pip install 'mlfem-jax[lime]'", name="skimage")
    options = {"score": score, "steps": steps, "internal_batch_size": internal_batch_size}
    black, white = (integrated_gradients(forward, baseline=end, **options)[0] for end in ("black", "white"))
    attributions = ((black + white) / 2).max(axis=-1)
    ranked = functools.partial(
        _ranked, scales=scales, min_size_px=min_size_px, dilation_px=dilation_px, least_px=least_px
    )
    shape = jax.ShapeDtypeStruct(attributions.shape, jnp.float32)
    images = forward.inputs.astype(jnp.float32)
    values = jax.pure_callback(ranked, shape, images, attributions, vmap_method="sequential")
    return finish(values, forward.size, sign="signed", raw=raw)


def _ranked(images, attributions, *, scales, min_size_px, dilation_px, least_px) -> np.ndarray:
    maps = []
    for image, attribution in zip(np.asarray(images), np.asarray(attributions), strict=True):
        regions = segments(image, scales=scales, min_size_px=min_size_px, dilation_px=dilation_px)
        maps.append(rank_regions(attribution, regions, least_px=least_px))
    return np.stack(maps).astype(np.float32)


def segments(
    image: Float[np.ndarray, "H W 3"],
    *,
    scales: tuple[int, ...] = SCALES,
    min_size_px: int = 150,
    dilation_px: int = 5,
) -> Bool[np.ndarray, "M H W"]:
    """Felzenszwalb's segments of an image at every scale, each grown by a disk; on the host.

    Args:
        image: of any range, which is scaled to [-1, 1] and rounded to 0.001: a last bit that differs from batch size to
            batch size would move the cuts. A blank image, or one that holds NaN, is one segment.
        scales: see `xrai_maps`.
        min_size_px: see `xrai_maps`.
        dilation_px: radius of the disk.
    """
    from skimage.segmentation import felzenszwalb

    low, span = image.min(), np.ptp(image)
    if not span > 0:
        return np.ones((1, *image.shape[:2]), bool)
    scaled = np.round((image - low) / span * 2 - 1, 3)
    labels = (felzenszwalb(scaled, scale=scale, sigma=0.8, min_size=min_size_px) for scale in scales)
    masks = np.concatenate([_masks(of_scale) for of_scale in labels])
    return _grown(masks, dilation_px)


def _masks(labels: Int[np.ndarray, "H W"]) -> Bool[np.ndarray, "M H W"]:
    return labels[None] == np.arange(labels.max() + 1)[:, None, None]


def _grown(masks: Bool[np.ndarray, "M H W"], radius: int) -> Bool[np.ndarray, "M H W"]:
    """Each mask, and all pixels within `radius` of it."""
    height, width = masks.shape[1:]
    wide, reached = masks, -1
    grown = np.zeros_like(masks)
    for down in range(min(radius, height - 1), -1, -1):  # the disk's rows, the narrow ones first
        across = min(int(np.sqrt(radius * radius - down * down)), width - 1)
        for step in range(max(reached, 0) + 1, across + 1):
            wide = wide.copy()
            wide[:, :, step:] |= masks[:, :, : width - step]
            wide[:, :, : width - step] |= masks[:, :, step:]
        reached = max(reached, across)
        grown[:, down:] |= wide[:, : height - down]
        grown[:, : height - down] |= wide[:, down:]
    return grown


def rank_regions(
    attribution: Float[np.ndarray, "H W"], regions: Bool[np.ndarray, "M H W"], *, least_px: int = 50
) -> Float[np.ndarray, "H W"]:
    """Each pixel's value is the mean attribution of what its region added when it was taken.

    Regions are taken one after the other, always the one whose pixels that none has taken yet have the largest mean;
    one that would add fewer than `least_px` is left out.

    Args:
        attribution: signed, of one image.
        regions: masks, which may overlap.
        least_px: see above; one pixel at least.

    Returns:
        (H, W) float64; pixels of no region get the mean of all of them.

    Example:
        >>> regions = np.array([[[True, True, False, False]], [[False, True, True, False]]])
        >>> print(rank_regions(np.array([[4.0, 1.0, 3.0, 0.0]], np.float32), regions, least_px=1))
        [[2.5 2.5 3.  0. ]]
    """
    values, masks = attribution.ravel().astype(np.float64), regions.reshape(len(regions), -1)
    counts, sums = masks.sum(axis=1), masks @ values
    ranked, taken = np.zeros_like(values), np.zeros(values.size, bool)
    while (useful := counts >= max(least_px, 1)).any():
        means = np.where(useful, sums / np.maximum(counts, 1), -np.inf)
        best = int(means.argmax())
        added = masks[best] & ~taken
        ranked[added] = means[best]
        taken |= added
        counts = counts - masks[:, added].sum(axis=1)
        sums = sums - masks[:, added] @ values[added]
    if not taken.all():
        ranked[~taken] = values[~taken].mean()
    return ranked.reshape(attribution.shape)


METHODS = {
    "xrai": Entry(xrai_maps, "gradient", "XRAI: regions ranked by Integrated Gradients", of_class=True),
}
