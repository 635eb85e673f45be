import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax.fusion.algebra import OPERATORS
from tests import reference

# Two layers of 2 x 2 pixels; the mean of the second is 0.375.
MAPS = np.array([[[0.0, 1.0], [0.5, 0.25]], [[1.0, 0.0], [0.5, 0.0]]], np.float32)


def random_maps(layers=5, shape=(7, 6)):
    return np.random.default_rng(layers).random((layers, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("max", [[1.0, 1.0], [0.5, 0.25]]),
        ("add", [[0.75, 0.25], [0.5, 0.0625]]),
        ("top", [[0.75, 0.25], [0.5, 0.0625]]),
        ("fem", [[1.0, 0.0], [0.5, 0.0]]),
        ("mean", [[0.5, 0.5], [0.5, 0.125]]),
        ("product", [[0.0, 0.0], [0.25, 0.0]]),
    ],
)
def test_by_hand(operator, expected):
    fused = mlfem.fuse(jnp.asarray(MAPS), operator=operator, alpha=0.25, normalize="none")
    np.testing.assert_allclose(fused, expected, atol=1e-7)


def test_top_drops_what_is_not_above_the_mean():
    # The mean of the second layer is 0.5, which the pixel of 0.5 does not exceed.
    maps = jnp.array([[0.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    np.testing.assert_array_equal(mlfem.fuse(maps, operator="top", alpha=0.0, normalize="none"), [1, 0, 0])


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("normalization", ["end", "each", "none"])
def test_agrees_with_loop(operator, normalization):
    maps = random_maps()
    found = mlfem.fuse(jnp.asarray(maps), operator=operator, alpha=0.3, normalize=normalization)
    np.testing.assert_allclose(found, reference.fuse(maps, operator, 0.3, normalization), atol=1e-6)


def test_add_with_alpha_zero_is_exactly_fem():
    maps = jnp.asarray(random_maps())
    np.testing.assert_array_equal(
        mlfem.fuse(maps, operator="add", alpha=0.0, normalize="none"),
        mlfem.fuse(maps, operator="fem", normalize="none"),
    )


def test_add_is_the_geometric_sequence_of_the_paper():
    maps, alpha = random_maps(4), 0.4
    weights = [alpha**3, (1 - alpha) * alpha**2, (1 - alpha) * alpha, 1 - alpha]
    expected = sum(weight * layer for weight, layer in zip(weights, maps, strict=True))
    np.testing.assert_allclose(mlfem.fuse(jnp.asarray(maps), alpha=alpha, normalize="none"), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "commutes"), [("max", True), ("mean", True), ("product", True), ("add", False), ("top", False)]
)
def test_which_operators_commute(operator, commutes):
    one_way = mlfem.fuse(jnp.asarray(MAPS), operator=operator, alpha=0.25, normalize="none")
    other_way = mlfem.fuse(jnp.asarray(MAPS[::-1]), operator=operator, alpha=0.25, normalize="none")
    assert np.allclose(one_way, other_way) == commutes


@pytest.mark.parametrize("operator", OPERATORS)
def test_one_layer_is_itself(operator):
    np.testing.assert_array_equal(mlfem.fuse(jnp.asarray(MAPS[:1]), operator=operator, normalize="none"), MAPS[0])


@pytest.mark.parametrize("normalization", ["end", "each"])
def test_blank_maps_stay_blank(normalization):
    for operator in OPERATORS:
        fused = mlfem.fuse(jnp.zeros((3, 4, 4)), operator=operator, normalize=normalization)
        np.testing.assert_array_equal(fused, np.zeros((4, 4)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operator": "sum"}, "operator: expected one of max, add, top, fem, mean, product, got 'sum'"),
        ({"normalize": "start"}, "normalize: expected 'end', 'each' or 'none'"),
        ({"alpha": 1.5}, r"alpha: expected a weight in \[0, 1\], got 1.5"),
        ({"alpha": float("nan")}, "alpha: expected a weight"),
    ],
)
def test_refuses_other_options(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        mlfem.fuse(jnp.asarray(MAPS), **options)


def test_refuses_an_empty_stack():
    with pytest.raises(ValueError, match="at least one map"):
        mlfem.fuse(jnp.zeros((0, 4, 4)))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("normalization", ["end", "each", "none"])
def test_a_list_of_maps_fuses_as_their_stack(operator, normalization):
    maps = jnp.asarray(random_maps())
    options = {"operator": operator, "alpha": 0.3, "normalize": normalization}
    np.testing.assert_array_equal(mlfem.fuse(list(maps), **options), mlfem.fuse(maps, **options))


def test_maps_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"maps: expected .* all of one size, got 2 of shapes \[\(2, 3\), \(4, 4\)\]"):
        mlfem.fuse([jnp.zeros((4, 4)), jnp.zeros((2, 3))])
