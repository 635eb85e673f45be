"""Other ways from a reference to the image than one straight line: expected gradients, and guided IG."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, baseline_inputs, check_count, finish, need_photos
from mlfem_jax.attribution.gradient import Attribution, input_gradient
from mlfem_jax.backbones import Forward
from mlfem_jax.parallel import chunk_size, sum_chunks

Pixels = Float[Array, "*S C"]
_ROUNDING = 1e-6


def random_colors(forward: Forward, key: Array, count: int) -> Float[Array, "count 1 1 3"]:
    """Preprocessed pixels of colors that are drawn uniformly: images that show nothing.

    Raises:
        ValueError: the network's data are not photographs.
    """
    need_photos(forward, "expected_gradients")
    colors = jax.random.randint(key, (count, 1, 1, 3), 0, 256, jnp.int32).astype(jnp.uint8)
    return forward.backbone.preprocess(colors).astype(jnp.float32)


def expected_gradients(
    forward: Forward,
    references: Float[Array, "R ..."],
    *,
    score: str = "logit",
    samples: int = 50,
    seed: int = 0,
    internal_batch_size: int = 64,
) -> Attribution:
    """The mean over references and places on the way of (image - reference) times the gradient there.

    Args:
        forward: the batch.
        references: (R, H, W, 3) preprocessed images, or (R, 1, 1, 3) colors, or examples of other data; one is drawn
            for each sample.
        score: see `target.class_score`.
        samples: pairs of a reference and a share of the way, the same for all images.
        seed: of the pairs.
        internal_batch_size: most images in one of the passes (at least the batch).

    Returns:
        (N, H, W, 3) float32, signed; with many samples they sum to the score of the image minus the mean score of the
        references.

    Raises:
        ValueError: no samples.

    Source:
        Erion et al., Improving performance of deep learning models with axiomatic attribution priors and expected
        gradients (2021), equation 5; Lundberg and Lee's gradient SHAP without noise.
    """
    check_count("samples", samples)
    inputs = forward.inputs.astype(jnp.float32)

    def sample(key):
        which, where = jax.random.split(key)
        reference = references[jax.random.randint(which, (), 0, len(references), jnp.int32)][None]
        way = inputs - reference
        point = reference + jax.random.uniform(where, (), jnp.float32) * way
        return way * input_gradient(forward, point.astype(forward.inputs.dtype), score=score)

    keys = jax.random.split(jax.random.key(seed), samples)
    return sum_chunks(sample, keys, chunk_size(len(inputs), internal_batch_size, forward.platform)) / samples


def expected_gradients_maps(
    forward: Forward,
    *,
    score: str = "logit",
    sign: str = "absolute",
    samples: int = 50,
    seed: int = 0,
    internal_batch_size: int = 64,
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """`expected_gradients` from images of one random color, summed over the colors.

    The paper draws the references from the training data, which a network does not bring along; with those of your
    own use `expected_gradients` in `map_batches`. Options as there. `sign`: "absolute" shows both.
    """
    check_count("samples", samples)
    references = random_colors(forward, jax.random.key(seed), samples)
    attribution = expected_gradients(
        forward, references, score=score, samples=samples, seed=seed + 1, internal_batch_size=internal_batch_size
    )
    return finish(attribution.sum(axis=-1), forward.size, sign=sign, raw=raw)


def guided_ig(
    forward: Forward,
    *,
    score: str = "logit",
    steps: int = 50,
    baseline: str = "black",
    fraction: float = 0.25,
    reach: float = 0.02,
) -> Attribution:
    """Gradients added up along a path that moves the values first on which the score depends least.

    In each step as many values move as bring the point 1 / `steps` of the way (in the sum of magnitudes) to the image,
    those of the smallest gradient first: see `guided_step`.

    Args:
        forward: the batch.
        score: see `target.class_score`.
        steps: gradients on the path.
        baseline: where it starts, see `base.baseline_inputs`.
        fraction: of the values that move at a time.
        reach: how far, as a share of the whole way, a value may run ahead of the straight line or stay behind; 0 is
            the straight line.

    Returns:
        (N, H, W, 3) float32, signed; with many steps they sum to the difference of the scores.

    Raises:
        ValueError: no steps, a fraction outside (0, 1], or a reach outside [0, 1].

    Source:
        Kapishnikov et al., Guided Integrated Gradients (2021), algorithm 1, with the authors' defaults but for `steps`
        (200). The last 1e-6 of a step's way is not walked: float32 does not tell it from none.
    """
    check_count("steps", steps)
    if not 0 < fraction <= 1 or not 0 <= reach <= 1:
        raise ValueError(f"fraction, reach: expected (0, 1] and [0, 1], got {fraction} and {reach}")
    image = forward.inputs.astype(jnp.float32)
    start = jnp.broadcast_to(baseline_inputs(forward, baseline).astype(jnp.float32), image.shape)
    step = jax.vmap(functools.partial(guided_step, fraction=fraction, reach=reach), in_axes=(0, 0, 0, 0, None))

    def walk(state, done):
        point, attribution = state
        gradient = input_gradient(forward, point.astype(forward.inputs.dtype), score=score)
        onward = step(point, gradient, start, image, done)
        return (onward, attribution + (onward - point) * gradient), None

    ways = jnp.arange(1, steps + 1, dtype=jnp.float32) / steps
    return jax.lax.scan(walk, (start, jnp.zeros_like(image)), ways)[0][1]


def guided_step(
    point: Pixels, gradient: Pixels, start: Pixels, image: Pixels, done: Float[Array, ""], *, fraction: float,
    reach: float,
) -> Pixels:  # fmt: skip
    """The next point of the path of `guided_ig`, of one image.

    Args:
        point: (H, W, C) where the path is.
        gradient: of the score there.
        start: where the path began.
        image: where it ends.
        done: share of the way, in the sum of magnitudes, that is behind when this step ends.
        fraction: see `guided_ig`.
        reach: see `guided_ig`.

    Example:
        >>> start, image = jnp.zeros((1, 2, 1)), jnp.ones((1, 2, 1))
        >>> slopes = jnp.array([[[3.0], [0.1]]])  # the second value moves first
        >>> print(guided_step(start, slopes, start, image, jnp.array(0.5), fraction=0.5, reach=0.5).ravel())
        [0. 1.]
    """
    way = image - start
    least, most = (start + way * jnp.clip(done + sign * reach, 0.0, 1.0) for sign in (-1, 1))
    behind = jnp.where(way > 0, point < least, point > least) & (way != 0)
    whole = jnp.abs(way).sum()
    rank = int(fraction * (point.size - 1))

    def missing(point):
        return jnp.abs(point - image).sum() - whole * (1 - done)

    def can_move(point):
        return (point != most) & jnp.isfinite(gradient)

    def unfinished(state):
        point, short = state
        return short & can_move(point).any() & (missing(point) > _ROUNDING * whole)

    def move(state):
        point, _ = state
        slopes = jnp.where(can_move(point), jnp.abs(gradient), jnp.inf)
        chosen = can_move(point) & (slopes <= jnp.sort(slopes, axis=None)[rank])
        room = jnp.where(chosen, jnp.abs(point - most), 0.0).sum()
        share = missing(point) / jnp.where(room > 0, room, 1.0)
        short = share > 1
        return jnp.where(chosen, jnp.where(short, most, point + (most - point) * share), point), short

    begin = jnp.where(behind, least, point)
    return jax.lax.while_loop(unfinished, move, (begin, jnp.array(True)))[0]


def guided_ig_maps(
    forward: Forward,
    *,
    score: str = "logit",
    sign: str = "absolute",
    steps: int = 50,
    baseline: str = "black",
    fraction: float = 0.25,
    reach: float = 0.02,
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """`guided_ig` summed over the colors; options as there. The paper keeps the sign; "absolute" shows both."""
    attribution = guided_ig(forward, score=score, steps=steps, baseline=baseline, fraction=fraction, reach=reach)
    return finish(attribution.sum(axis=-1), forward.size, sign=sign, raw=raw)


METHODS = {
    "expected_gradients": Entry(
        expected_gradients_maps, "gradient", "expected gradients: along paths from many references", of_class=True
    ),
    "guided_ig": Entry(
        guided_ig_maps, "gradient", "guided IG: along a path that avoids steep gradients", of_class=True
    ),
}
