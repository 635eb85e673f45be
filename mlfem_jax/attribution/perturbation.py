"""What happens to the score when parts of the image are hidden: occlusion, RISE, LIME.

Image after image: each forward pass holds at most `internal_batch_size` perturbations of one of them. A network rounds
otherwise in a batch of another size, and where the score moves little, min-max makes a visible difference of that. So
every pass has the same shape whatever the batch, the unhidden image goes through one of them too, and maps are sums of
differences from one score. Masks are drawn from `seed` alone, in float32 whatever `jax_enable_x64` says. Where nothing
that is hidden changes the score by more than rounding, the map is blank (`target.moves`).
"""

import functools
import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from mlfem_jax.attribution.base import (
    Entry,
    along,
    baseline_inputs,
    by_example,
    check_count,
    each_axis,
    finish,
)
from mlfem_jax.attribution.target import class_score, moves
from mlfem_jax.backbones import Forward, LogitFunction
from mlfem_jax.parallel import chunk_size, map_chunks, sum_chunks


def occlusion_maps(
    forward: Forward,
    *,
    window_px: int | tuple[int, ...] = 32,
    stride_px: int | tuple[int, ...] = 16,
    baseline: str = "zero",
    score: str = "probability",
    sign: str = "positive",
    internal_batch_size: int = 64,
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """How much the score falls when a window hides a pixel, averaged over the windows that hide it.

    Args:
        forward: the batch.
        window_px: side of the square window; or its length along each axis of the input, in pixels or samples.
        stride_px: from one window to the next, likewise; those that reach over the far edges are cut there.
        baseline: what the window shows, see `base.baseline_inputs`; the paper takes gray.
        score: the paper takes the probability.
        sign: "positive" shows where the score falls, "negative" where it rises.
        internal_batch_size: most perturbations of an image in a forward pass.
        raw: the values themselves, signed.

    Raises:
        ValueError: a window or stride of less than a pixel, or a stride that leaves gaps.

    Source:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (2013), section 4.2.
    """
    size, axes = forward.size, len(forward.size)
    window, stride = each_axis("window_px", window_px, axes), each_axis("stride_px", stride_px, axes)
    if any(step > length for step, length in zip(stride, window, strict=True)):
        raise ValueError(
            f"stride_px: expected at most window_px ({window_px}), so that no gap is left, got {stride_px}"
        )
    hidden = baseline_inputs(forward, baseline)
    sides = list(zip(size, window, stride, strict=True))
    starts = [range(0, min(max(length - side, 0) + step, length), step) for length, side, step in sides]
    windows = jnp.array([size, *itertools.product(*starts)], jnp.int32)  # the first hides nothing
    chunk = chunk_size(1, internal_batch_size, forward.platform)

    def inside(corner):
        hit = jnp.ones((1,) * axes, bool)
        for axis, (length, side, start) in enumerate(zip(size, window, corner, strict=True)):
            place = jnp.arange(length, dtype=jnp.int32) - start
            hit = hit & along((place >= 0) & (place < side), axis, axes)
        return hit

    def of_image(image, classes):
        def score_of(corner):
            return _score(forward, jnp.where(inside(corner)[..., None], hidden[0], image), classes, score)

        def fall(window):
            corner, change = window
            hides = inside(corner).astype(jnp.float32)
            return -change * hides, hides

        scores = map_chunks(score_of, windows, chunk)
        total, count = sum_chunks(fall, (windows[1:], scores[1:] - scores[0]), chunk)
        return total / count, scores[1:]

    return _maps(forward, score, sign, raw, *_each(of_image, forward))


def rise_maps(
    forward: Forward,
    *,
    samples: int = 1000,
    cells: int | tuple[int, ...] = 7,
    keep: float = 0.5,
    score: str = "probability",
    seed: int = 0,
    internal_batch_size: int = 64,
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """The mean of random masks, weighted by the score of the image seen through each.

    Args:
        forward: the batch.
        samples: masks; the paper takes 4000 for VGG-16 and 8000 for ResNet-50.
        cells: a mask is a grid of this many cells a side, or along each axis, upsampled and shifted at random by up to
            a cell.
        keep: probability that a cell is shown.
        score: the paper takes the probability.
        seed: of the masks.
        internal_batch_size: most perturbations of an image in a forward pass.
        raw: the values themselves, signed.

    Raises:
        ValueError: no samples or cells, or a probability outside (0, 1).

    Source:
        Petsiuk et al., RISE (2018), equation 6 and section 3.2. Hidden is the preprocessed value 0, as there.
    """
    check_count("samples", samples)
    if not 0 < keep < 1:
        raise ValueError(f"keep: expected a probability between 0 and 1, got {keep}")
    keys, chunk = jax.random.split(jax.random.key(seed), samples), chunk_size(1, internal_batch_size, forward.platform)
    draw = functools.partial(rise_mask, size=forward.size, cells=cells, keep=keep)

    def of_image(image, classes):
        def score_of(key):
            return _score(forward, image * draw(key)[..., None].astype(image.dtype), classes, score)

        def weighted(sample):
            key, change = sample
            mask = draw(key)
            return change * mask, mask

        scores = map_chunks(score_of, keys, chunk)
        # The mean score adds the same to every pixel, which min-max takes out again: summed, it would only round.
        total, shown = sum_chunks(weighted, (keys, scores - scores.mean()), chunk)
        # The sum of the masks, where the paper has its expectation: with few, no pixel gains by being shown often.
        return total / shown, scores

    return _maps(forward, score, "signed", raw, *_each(of_image, forward))


def rise_mask(
    key: Array, size: tuple[int, ...], *, cells: int | tuple[int, ...] = 7, keep: float = 0.5
) -> Float[Array, "*S"]:
    """A random smooth mask in [0, 1]: `cells` a side, each shown with probability `keep`, shifted at random."""
    cells = each_axis("cells", cells, len(size))
    key, *shifts = jax.random.split(key, 1 + len(size))
    cell = [-(-length // count) for length, count in zip(size, cells, strict=True)]
    more = [count + 1 for count in cells]
    grid = jax.random.bernoulli(key, jnp.float32(keep), more).astype(jnp.float32)
    large = jax.image.resize(grid, [count * length for count, length in zip(more, cell, strict=True)], "linear")
    ranges = zip(shifts, cell, strict=True)
    corner = [jax.random.randint(key, (), 0, length, jnp.int32) for key, length in ranges]
    return jax.lax.dynamic_slice(large, corner, size)


def lime_maps(
    forward: Forward,
    *,
    samples: int = 1000,
    segments: int = 50,
    kernel_width: float = 0.25,
    ridge: float = 1.0,
    score: str = "probability",
    sign: str = "positive",
    seed: int = 0,
    internal_batch_size: int = 64,
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """The weights of a linear model of the score, whose features are the superpixels that are shown.

    Superpixels are scikit-image's SLIC, computed on the host; the segments of a signal are of one length. Hidden ones
    show their mean color.

    Args:
        forward: the batch.
        samples: random halves of the superpixels that are shown, the first of them all.
        segments: superpixels of each image, about.
        kernel_width: samples weigh exp(-d^2 / (2 kernel_width^2)), d the cosine distance to the whole image.
        ridge: penalty on the squared weights; the intercept is free.
        score: the paper takes the probability.
        sign: "positive" shows the superpixels that speak for the class.
        seed: of the samples.
        internal_batch_size: most perturbations of an image in a forward pass.
        raw: the values themselves, signed.

    Raises:
        ValueError: no samples, or less than two segments.
        ModuleNotFoundError: scikit-image is not installed.

    Source:
        Ribeiro et al., "Why Should I Trust You?" (2016), equation 2. Kernel, width, penalty and hiding color are those
        of the authors' package; it cuts superpixels by quickshift, and keeps some features where this keeps all.
    """
    check_count("samples", samples)
    check_count("segments", segments, 2)
    labels = superpixels(forward.inputs, segments, colors=forward.backbone.photos)
    room = _room(segments)
    members = jax.nn.one_hot(labels, room, dtype=jnp.float32)
    pixels = members.sum(axis=tuple(range(1, labels.ndim)))
    inputs, count = forward.inputs.astype(jnp.float32), len(labels)
    flat = members.reshape(count, -1, room), inputs.reshape(count, -1, inputs.shape[-1])
    total = jnp.einsum("npk,npc->nkc", *flat, precision=jax.lax.Precision.HIGHEST)
    colors = total / jnp.maximum(pixels, 1.0)[..., None]
    hidden = jax.vmap(lambda color, label: color[label])(colors, labels)
    shown = jax.random.bernoulli(jax.random.key(seed), jnp.float32(0.5), (samples, room)).at[0].set(True)
    chunk = chunk_size(1, internal_batch_size, forward.platform)

    def of_image(image, classes, label, hidden, exists):
        def score_of(shown):
            return _score(
                forward, jnp.where(shown[label][..., None], image.astype(jnp.float32), hidden), classes, score
            )

        scores = map_chunks(score_of, shown, chunk)
        weights = weighted_ridge(shown, exists, scores, kernel_width=kernel_width, ridge=ridge)
        return weights[label], scores

    # The inputs in float32: a hidden superpixel's mean is not rounded before it is shown.
    return _maps(forward, score, sign, raw, *_each(of_image, forward, labels, hidden, pixels > 0))


def weighted_ridge(
    shown: Bool[Array, "M K"],
    exists: Bool[Array, " K"],
    scores: Float[Array, " M"],
    *,
    kernel_width: float,
    ridge: float,
) -> Float[Array, " K"]:
    """The weight of each superpixel in LIME's linear model of the scores.

    Args:
        shown: which superpixels each sample shows.
        exists: which of them the image has; the others get the weight 0.
        scores: of the samples.
        kernel_width: see `lime_maps`.
        ridge: see `lime_maps`.
    """
    features = (shown & exists[None]).astype(jnp.float32)
    distance = 1 - jnp.sqrt(features.sum(axis=1) / exists.sum(dtype=jnp.float32))
    nearness = jnp.exp(-(distance**2) / (2 * kernel_width**2))
    # Both centered on their weighted means, which leaves the intercept out of the penalty.
    with jax.default_matmul_precision("highest"):  # an accelerator's own is wrong in the third digit
        features = features - (nearness @ features / nearness.sum())[None]
        scores = scores - nearness @ scores / nearness.sum()
        gram = (features * nearness[:, None]).T @ features
        penalty = ridge * jnp.eye(features.shape[1], dtype=jnp.float32)
        return jnp.linalg.solve(gram + penalty, features.T @ (nearness * scores))


def superpixels(inputs: Num[Array, " N *S C"], segments: int, *, colors: bool = True) -> Int[Array, " N *S"]:
    """SLIC labels from 0 of each image, fewer than twice `segments`; computed on the host, also under `jax.jit`.

    Of signals, which have one spatial axis, they are segments of one length, and scikit-image is not needed.

    Args:
        inputs: preprocessed.
        segments: about how many.
        colors: three channels are red, green and blue, which SLIC compares as people see them.
    """
    if inputs.ndim == 3:
        length = inputs.shape[1]
        runs = jnp.arange(length, dtype=jnp.int32) * min(segments, length) // length
        return jnp.broadcast_to(runs[None], inputs.shape[:2])
    if importlib.util.find_spec("skimage") is None:
        raise ModuleNotFoundError("superpixels need scikit-image: pip install 'mlfem-jax[lime]'", name="skimage")
    shape = jax.ShapeDtypeStruct(inputs.shape[:-1], jnp.int32)
    cut = functools.partial(_slic, segments=segments, colors=colors)
    return jax.pure_callback(cut, shape, inputs.astype(jnp.float32), vmap_method="sequential")


def _slic(images: Float[Array, " N *S C"], segments: int, colors: bool) -> np.ndarray:
    from skimage.segmentation import slic

    slic = functools.partial(slic, convert2lab=colors, channel_axis=-1)
    return np.stack([_cut(slic, image, segments) for image in np.asarray(images)]).astype(np.int32)


def _cut(slic, image: np.ndarray, segments: int) -> np.ndarray:
    low, span = image.min(), np.ptp(image)
    if not span > 0:  # one superpixel for a blank image, or one that holds NaN
        return np.zeros(image.shape[:-1], np.int32)
    # Rounded, because a last bit that differs from batch size to batch size would move the cuts.
    labels = slic(np.round((image - low) / span, 3), n_segments=segments, compactness=10, start_label=0)
    if labels.max() >= _room(segments):
        raise ValueError(f"segments: expected about {segments} superpixels, got {labels.max() + 1} from SLIC")
    return labels


def _room(segments: int) -> int:
    return 2 * segments


def _each(function: Callable[..., Any], forward: Forward, *more: Array) -> Any:
    """`function` of each image, its classes, and what else there is of it, one after the other."""
    return jax.lax.map(lambda image: function(*image), (forward.inputs, forward.classes, *more))


def _score(forward: Forward, image: Float[Array, "*S C"], classes: Any, score: str) -> Float[Array, ""]:
    one = jax.tree.map(lambda leaf: leaf[None], classes)  # a function of the logits has no leaves
    return class_score(forward.run(image[None]), one, score, forward.backbone.output)[0]


def _maps(
    forward: Forward, score: str, sign: str, raw: bool, values: Float[Array, " N *S"], scores: Float[Array, "N M"]
) -> Float[Array, " N *S"]:
    """Maps from values, blank where the scores of the perturbed images do not move."""
    score = "logit" if isinstance(forward.classes, LogitFunction) else score
    moving = moves(scores.T, forward.logits, score)
    values = jnp.where(by_example(moving, values), values, jnp.zeros_like(values))
    return finish(values, forward.size, sign=sign, raw=raw)


METHODS = {
    "lime": Entry(lime_maps, "forwards", "LIME: a linear model of which superpixels matter", of_class=True),
    "rise": Entry(rise_maps, "forwards", "RISE: random masks weighted by the score they leave", of_class=True),
    "occlusion": Entry(occlusion_maps, "forwards", "how far the score falls when a window hides it", of_class=True),
}
