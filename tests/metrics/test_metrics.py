import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax import metrics
from tests import reference_metrics as reference

SHAPE = (9, 13)
BOX = (1, 2, 8, 11)
PAIR_METRICS = ("pcc", "similarity", "kl_divergence", "emd")
FIXATION_METRICS = ("nss", "auc", "auc_judd", "auc_shuffled", "information_gain")


def scene(seed):
    """A map full of exact zeros and ties, a density, fixations (fractional, repeated, outside, NaN), and others."""
    rng = np.random.default_rng(seed)
    image = np.maximum(np.round(rng.normal(size=SHAPE), 1), 0).astype(np.float32)
    gfdm = np.square(rng.random(SHAPE)).astype(np.float32)
    fixations = rng.uniform(-1.5, np.array(SHAPE) + 0.5, (30, 2)).astype(np.float32)
    fixations[5:9] = fixations[:4]
    fixations[9] = np.nan
    others = rng.uniform(-1.5, np.array(SHAPE) + 0.5, (40, 2)).astype(np.float32)
    return image, gfdm, fixations, others


@functools.cache
def compiled(name, **static):
    return jax.jit(functools.partial(getattr(metrics, name), **static))


def score(name, image, gfdm, fixations, others, content_box=None, **options):
    """Any metric of a scene; EMD on a grid of 3 x 4 cells."""
    box = jnp.array(content_box or (0, 0, *SHAPE))
    if name in PAIR_METRICS:
        metric = compiled(name, factor=4) if name == "emd" else compiled(name)
        return metric(image, gfdm, content_box=box, **options)
    extra = (others,) if name == "auc_shuffled" else ()
    return compiled(name)(image, fixations, *extra, content_box=box, **options)


@pytest.mark.parametrize("box", [None, BOX])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [*PAIR_METRICS[:3], *FIXATION_METRICS])
def test_agrees_with_the_reference(name, seed, box):
    image, gfdm, fixations, others = scene(seed)
    arguments = (gfdm,) if name in PAIR_METRICS else (fixations,)
    arguments += (others,) if name == "auc_shuffled" else ()
    expected = getattr(reference, name)(image, *arguments, box=box)
    value = score(name, image, gfdm, fixations, others, content_box=box)
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("box", [None, BOX])
def test_options_agree_with_the_reference(box):
    image, gfdm, fixations, _ = scene(3)
    dynamic = {"content_box": np.array(box or (0, 0, *SHAPE))}
    mit = compiled("similarity", convention="mit")(image, gfdm, **dynamic)
    assert float(mit) == pytest.approx(reference.similarity(image, gfdm, box, convention="mit"), rel=1e-5)
    signed = compiled("similarity")(image - 1, gfdm, **dynamic)
    assert float(signed) == pytest.approx(reference.similarity(image - 1, gfdm, box), rel=1e-5)
    sample = compiled("nss", ddof=1)(image, fixations, **dynamic)
    assert float(sample) == pytest.approx(reference.nss(image, fixations, box, ddof=1), rel=1e-5)
    gain = compiled("information_gain")(image, fixations, baseline=gfdm, **dynamic)
    assert float(gain) == pytest.approx(reference.information_gain(image, fixations, gfdm, box), rel=1e-5)


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "pysaliency.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", [*PAIR_METRICS[:3], *FIXATION_METRICS])
def test_agrees_with_pysaliency(golden, name):
    expected = golden[f"score_{name}"]
    assert len(expected) == len(golden["maps"]) == 4
    for number, value in enumerate(expected):
        own = golden["of_image"] == number
        image = golden["positive" if name == "information_gain" else "maps"][number]
        arguments, options = (golden["gfdm"][number],), {}
        if name in FIXATION_METRICS:
            arguments, options = (golden["fixations"],), {"mask": own}
        if name == "auc_shuffled":
            arguments, options = (*arguments, golden["fixations"]), options | {"other_mask": ~own}
        if name == "information_gain":
            options["baseline"] = golden["baseline"]
        assert float(compiled(name)(image, *arguments, **options)) == pytest.approx(value, abs=1e-5), f"map {number}"


def test_pcc_by_hand():
    # Deviations (-1, 0, 1) and (-2, 1, 1): 3 / sqrt(2 * 6).
    value = compiled("pcc")(np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 3.0, 3.0]]))
    assert float(value) == pytest.approx(3 / np.sqrt(12), rel=1e-6)


def test_similarity_by_hand():
    # (1, 3) / 4 and (2, 2 + 1) / 5: min(.25, .4) + min(.75, .6); scaled to [0, 1] both are (0, 1).
    first, second = np.array([[1.0, 3.0]]), np.array([[2.0, 3.0]])
    assert float(metrics.similarity(first, second)) == pytest.approx(0.85)
    assert float(metrics.similarity(first, second, convention="mit")) == 1.0


def test_auc_judd_by_hand():
    # Of the four others, 1 is above the fixated 2 and one more above the fixated 1: (1/4, 1/2), (2/4, 1), then (1, 1).
    image = np.array([[3.0, 2.0, 1.5], [1.0, 0.0, 0.0]])
    value = compiled("auc_judd")(image, np.array([[0, 1], [1, 0]]))
    assert float(value) == pytest.approx(0.25 * 0.25 + 0.25 * 0.75 + 0.5)


def test_kl_of_gaze_on_a_zero_of_the_map():
    value = metrics.kl_divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert float(value) == pytest.approx(np.log(1 / 2.2204e-16), rel=1e-6)


def test_a_fixation_belongs_to_the_pixel_whose_center_is_nearest():
    image = np.arange(6.0).reshape(2, 3)
    at = {(-0.5, -0.5): 0, (0.49, 0.49): 0, (0.5, 0.49): 3, (1.49, 2.49): 5}
    for point, value in at.items():
        expected = (value - image.mean()) / image.std()
        assert float(compiled("nss")(image, np.array([point]))) == pytest.approx(expected, abs=1e-6), point
    for outside in [(-0.51, 0), (1.5, 0), (0, 2.5), (0, -np.inf), (np.nan, 0)]:
        assert np.isnan(compiled("nss")(image, np.array([outside]))), outside


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-25, 1e6])
def test_pcc_agrees_with_numpy_at_any_scale(scale):
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 40, 50)).astype(np.float32)
    second += first
    expected = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert float(compiled("pcc")(first * np.float32(scale), second)) == pytest.approx(expected, rel=1e-5)
    assert float(compiled("pcc")(second, first * np.float32(scale))) == pytest.approx(expected, rel=1e-5)


def test_large_maps_lose_no_digits():
    rng = np.random.default_rng(0)
    first, second = np.square(rng.random((2, 480, 640))).astype(np.float32)
    second += first / 4
    p, q = (image.astype(np.float64) / image.sum(dtype=np.float64) for image in (first, second))
    kl = (q * np.log(2.2204e-16 + q / (p + 2.2204e-16))).sum()
    assert float(compiled("pcc")(first, second)) == pytest.approx(np.corrcoef(p.ravel(), q.ravel())[0, 1], rel=1e-5)
    assert float(compiled("similarity")(first, second)) == pytest.approx(np.minimum(p, q).sum(), rel=1e-5)
    assert float(compiled("kl_divergence")(first, second)) == pytest.approx(kl, rel=1e-5)


def test_statistics_are_float32():
    rng = np.random.default_rng(1)
    first, second = jnp.asarray(rng.random((2, 64, 64)), jnp.bfloat16)
    expected = np.corrcoef(np.float64(first).ravel(), np.float64(second).ravel())[0, 1]
    value = compiled("pcc")(first, second)
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", [*PAIR_METRICS, *FIXATION_METRICS])
def test_a_constant_or_broken_map_is_nan(name):
    image, gfdm, fixations, others = scene(0)
    bad = [np.full(SHAPE, level, np.float32) for level in (0.0, 0.1, 7.3)]
    for value in (np.nan, np.inf):
        bad.append(image.copy())
        bad[-1][4, 5] = value
    for broken in bad:
        assert np.isnan(score(name, broken, gfdm, fixations, others))
        if name in PAIR_METRICS:
            assert np.isnan(score(name, image, broken, fixations, others))


@pytest.mark.parametrize("name", [*PAIR_METRICS, *FIXATION_METRICS])
def test_only_the_content_exists(name):
    image, gfdm, fixations, others = scene(1)
    run = functools.partial(score, name, gfdm=gfdm, fixations=fixations, others=others)
    outside = np.ones(SHAPE, bool)
    outside[BOX[0] : BOX[2], BOX[1] : BOX[3]] = False
    expected = run(image, content_box=BOX)
    assert np.isfinite(expected)
    for junk in (9.0, np.nan):
        assert float(run(np.where(outside, np.float32(junk), image), content_box=BOX)) == float(expected)
    assert np.isnan(run(np.where(outside, image, np.float32(1)), content_box=BOX))
    assert np.isnan(run(image, content_box=(0, 0, 0, 0)))


@pytest.mark.parametrize("name", FIXATION_METRICS)
def test_masked_fixations_count_for_nothing(name):
    image, gfdm, fixations, others = scene(2)
    arguments = (others,) if name == "auc_shuffled" else ()
    expected = getattr(reference, name)(image, fixations[:20], *arguments)
    value = score(name, image, gfdm, fixations, others, mask=np.arange(30) < 20)
    assert float(value) == pytest.approx(expected, abs=1e-6, rel=1e-5)
    assert np.isnan(score(name, image, gfdm, fixations, others, mask=np.zeros(30, bool)))


@pytest.mark.parametrize("name", ["nss", "auc_judd"])
def test_an_empty_list_of_fixations_is_nan(name):
    image, gfdm, _, others = scene(2)
    assert np.isnan(score(name, image, gfdm, np.zeros((0, 2)), others))


def test_masked_other_fixations_count_for_nothing():
    image, _, fixations, others = scene(2)
    expected = reference.auc_shuffled(image, fixations, others[:25])
    value = compiled("auc_shuffled")(image, fixations, others, other_mask=np.arange(40) < 25)
    assert float(value) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(compiled("auc_shuffled")(image, fixations, others, other_mask=np.zeros(40, bool)))


def test_auc_judd_of_an_image_fixated_all_over_is_nan():
    everywhere = np.argwhere(np.ones((2, 3)))
    assert np.isnan(compiled("auc_judd")(np.arange(6.0).reshape(2, 3), everywhere))


@pytest.mark.parametrize("name", [*PAIR_METRICS, *FIXATION_METRICS])
def test_maps_over_a_batch_with_one_trace(name):
    scenes = [scene(seed) for seed in range(3)]
    boxes = np.array([BOX, (0, 0, *SHAPE), (0, 0, 0, 0)])
    traces = []

    def one(image, gfdm, fixations, others, box):
        traces.append(name)
        arguments = (gfdm,) if name in PAIR_METRICS else (fixations,)
        arguments += (others,) if name == "auc_shuffled" else ()
        options = {"factor": 4} if name == "emd" else {}
        return getattr(metrics, name)(image, *arguments, content_box=box, **options)

    scores = jax.jit(jax.vmap(one))
    batch = (*(np.stack(part) for part in zip(*scenes, strict=True)), boxes)
    values = scores(*batch)
    np.testing.assert_array_equal(scores(*(part[::-1] for part in batch))[::-1], values)
    assert len(traces) == 1
    expected = [score(name, *scene, content_box=tuple(box)) for scene, box in zip(scenes, boxes, strict=True)]
    np.testing.assert_allclose(values, np.stack(expected), rtol=1e-5, atol=1e-6)
    assert np.isfinite(values[:2]).all() and np.isnan(values[2])


@pytest.mark.parametrize("metric", [metrics.pcc, metrics.kl_divergence, metrics.similarity])
def test_gradients_are_finite(metric):
    image, gfdm, *_ = scene(0)
    gfdm = np.where(gfdm < 0.3, np.float32(0), gfdm)
    blank = np.zeros(SHAPE, np.float32)
    gradients = jax.jit(jax.grad(metric, argnums=(0, 1)))
    for pair in [(image, gfdm), (image, image), (blank, gfdm), (image, blank), (blank, blank)]:
        for gradient in gradients(*pair):
            assert np.isfinite(gradient).all()
    gradient = gradients(image, gfdm)[0]
    assert np.abs(gradient).max() > 0
    sign = -1 if metric is metrics.kl_divergence else 1
    better = metric(image + sign * 1e-3 * gradient / np.abs(gradient).max(), gfdm)
    assert sign * float(better) > sign * float(metric(image, gfdm))


def test_properties():
    image, gfdm, fixations, _ = scene(4)
    assert float(metrics.similarity(image, gfdm)) == pytest.approx(float(metrics.similarity(gfdm, image)))
    assert float(metrics.similarity(image, 3 * image)) == pytest.approx(1, rel=1e-6)
    assert float(metrics.kl_divergence(image, 3 * image)) == pytest.approx(0, abs=1e-6)
    assert float(metrics.emd(image, 3 * image, factor=4)) == pytest.approx(0, abs=1e-6)
    higher = compiled("auc")(image, fixations)
    assert float(compiled("auc")(np.exp(image), fixations)) == float(higher)  # only the order matters
    assert float(compiled("auc")(-image, fixations)) == pytest.approx(1 - float(higher))
    assert float(compiled("auc_shuffled")(image, fixations, fixations)) == pytest.approx(0.5)


def test_emd_by_hand():
    first, second = np.zeros((2, 3, 4))
    first[0, 0], second[0, 3], second[2, 0] = 2.0, 3.0, 1.0
    # Of mass 1, 3/4 goes 3 cells to the right and 1/4 goes 2 cells down.
    assert float(metrics.emd(first, second, factor=1)) == pytest.approx(0.75 * 3 + 0.25 * 2, rel=1e-6)


def test_emd_agrees_with_an_assignment_of_units():
    rng = np.random.default_rng(0)
    for shape in [(1, 9), (6, 5)]:
        first = rng.integers(0, 6, shape)
        second = rng.permutation(first.ravel()).reshape(shape)
        value = metrics.emd(first.astype(np.float32), second.astype(np.float32), factor=1)
        assert float(value) == pytest.approx(reference.emd(first, second), rel=1e-5)


def test_emd_sums_over_cells():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 3, 4)).astype(np.float32)
    expected = metrics.emd(first, second, factor=1)
    first, second = (np.kron(image, rng.dirichlet(np.ones(100)).reshape(10, 10)) for image in (first, second))
    assert float(metrics.emd(first, second, factor=10)) == pytest.approx(float(expected), rel=1e-5)


def test_emd_splits_a_pixel_across_an_edge():
    # Two cells over five pixels: half of the middle one is on either side.
    middle, left = np.array([[0.0, 0.0, 1.0, 0.0, 0.0]]), np.array([[1.0, 0.0, 0.0, 0.0, 0.0]])
    assert float(metrics.emd(middle, left, factor=4)) == pytest.approx(0.5)


def test_bad_input_is_named():
    image = np.zeros((4, 5))
    with pytest.raises(ValueError, match=r"gfdm: expected .* \(4, 5\), got \(4, 1\)"):
        metrics.kl_divergence.__wrapped__(image, np.zeros((4, 1)))
    with pytest.raises(ValueError, match=r"convention: .*'judd'"):
        metrics.similarity.__wrapped__(image, image, convention="judd")
    with pytest.raises(ValueError, match=r"factor: .* got 0"):
        metrics.emd(image, image, factor=0)


def test_counts_are_as_good_as_fixations():
    rng = np.random.default_rng(3)
    image = rng.integers(0, 4, (5, 7)).astype(float)
    own, others = rng.uniform(-1, [5, 7], (6, 2)), rng.uniform(-1, [5, 7], (30, 2))
    box = (1, 0, 5, 6)
    counts = np.zeros((5, 7), int)
    for y, x in reference.places(others, image.shape):
        counts[y, x] += 1
    np.testing.assert_array_equal(metrics.fixation_counts(others, (5, 7)), counts)
    score = metrics.auc_against_counts(jnp.asarray(image), own, counts, content_box=box)
    assert float(score) == pytest.approx(reference.auc_shuffled(image, own, others, box), abs=1e-6)
    assert np.isnan(metrics.auc_against_counts(jnp.asarray(image), own, np.zeros((5, 7))))
    with pytest.raises(ValueError, match="counts"):
        metrics.auc_against_counts(jnp.asarray(image), own, counts[:4])


def test_emd_of_masses_that_span_forty_orders_of_magnitude():
    # Cells of one pixel; which the presolver of the linear program calls infeasible.
    rng = np.random.default_rng(0)
    y, x = np.indices((7, 7))
    for _ in range(400):
        power, (b, a), width = rng.choice([1, 4, 10, 20, 40]), rng.uniform(0, 6, 2), rng.uniform(0.5, 4)
        image, bell = rng.random((7, 7)) ** power, np.exp(-((y - b) ** 2 + (x - a) ** 2) / width)
        assert 0 < float(metrics.emd(jnp.asarray(image), jnp.asarray(bell), factor=1)) < 9
