import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from tests import reference


def relu_noise(seed, shape):
    return np.maximum(np.random.default_rng(seed).standard_normal(shape), 0).astype(np.float32)


def test_two_channels_by_hand():
    # Channel 0: mean 2, population deviation sqrt((3 * 4 + 36) / 4) = sqrt(12) = 3.46; only 8 >= 2 + 3.46.
    # Channel 1: mean 3, deviation sqrt((1 + 9 + 9 + 1) / 4) = sqrt(5) = 2.24; only 6 >= 3 + 2.24.
    activation = jnp.array([[[0.0, 2.0], [0.0, 0.0]], [[0.0, 6.0], [8.0, 4.0]]])
    np.testing.assert_array_equal(mlfem.fem(activation, k=1.0), [[0, 0], [3, 2]])


def test_threshold_is_reached_by_equality():
    # Mean 4, deviation 4: 8 is exactly mean + 1 deviation, and the paper's sign is >=.
    np.testing.assert_array_equal(mlfem.fem(jnp.array([[0.0], [8.0]]), k=1.0), [0, 4])


def test_default_k_is_two():
    activation = jnp.asarray(relu_noise(0, (9, 9, 5)))
    np.testing.assert_array_equal(mlfem.fem(activation), mlfem.fem(activation, k=2.0))


@pytest.mark.parametrize("shape", [(50, 7), (13, 11, 6), (5, 6, 7, 4)], ids=["1d", "2d", "3d"])
@pytest.mark.parametrize("k", [0.5, 2.0])
def test_fem_agrees_with_loop(shape, k):
    activation = relu_noise(1, shape)
    expected = reference.fem(activation, k)
    np.testing.assert_allclose(mlfem.fem(jnp.asarray(activation), k=k), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("offset", [1000.0, -1000.0])
def test_large_mean_cancels_nothing(offset):
    activation = (np.random.default_rng(2).standard_normal((12, 12, 3)) + offset).astype(np.float32)
    np.testing.assert_allclose(mlfem.fem(jnp.asarray(activation), k=1.0), reference.fem(activation, 1.0), rtol=1e-6)


def test_bfloat16_statistics_are_float32():
    activation = jnp.asarray(relu_noise(3, (64, 64, 8)), jnp.bfloat16)
    result = mlfem.fem(activation)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, reference.fem(np.asarray(activation, np.float32), 2.0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-3, 12345.678, -0.7])
@pytest.mark.parametrize("size", [(7, 7), (13, 17), (112, 112)])
def test_constant_channel_of_bfloat16_is_strong_everywhere(value, size):
    activation = jnp.full((*size, 3), value, jnp.bfloat16)
    np.testing.assert_array_equal(mlfem.fem(activation), np.full(size, 3 * np.float32(activation[0, 0, 0])))


@pytest.mark.parametrize("position", [(0, 0), (6, 11)])
@pytest.mark.parametrize("value", [100.5, 99.5], ids=["above", "below"])
def test_bfloat16_channel_with_one_other_value_is_not_constant(position, value):
    # The neighbors of 100 in bfloat16: its 192 positions differ from a constant channel in one last bit.
    activation = np.full((12, 16, 1), 100, np.float32)
    activation[(*position, 0)] = value
    found = mlfem.fem(jnp.asarray(activation, jnp.bfloat16), k=1.0)
    np.testing.assert_allclose(found, reference.fem(activation, 1.0), rtol=1e-6)


@pytest.mark.parametrize("mean", [0.0, 3.0, -30.0, 300.0], ids=str)
@pytest.mark.parametrize("shape", [(7, 7, 8), (24, 56, 4)], ids=str)
def test_bfloat16_agrees_with_float64_for_large_means(mean, shape):
    # At 300 a step of bfloat16 is 2: what the values have lost is more than float32 loses of their moments.
    activation = jnp.asarray(np.random.default_rng(14).standard_normal(shape) + mean, jnp.bfloat16)
    expected = reference.fem(np.asarray(activation, np.float64), 1.5)
    np.testing.assert_allclose(mlfem.fem(activation, k=1.5), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-3, 12345.678, -0.7])
@pytest.mark.parametrize("size", [(7, 7), (13, 17), (112, 112)])
def test_constant_channel_is_strong_everywhere(value, size):
    result = mlfem.fem(jnp.full((*size, 2), value, jnp.float32))
    np.testing.assert_array_equal(result, np.full(size, np.float32(value) + np.float32(value)))


def test_zeros_give_zeros():
    np.testing.assert_array_equal(mlfem.fem(jnp.zeros((4, 4, 3))), np.zeros((4, 4)))


def test_single_position_gives_the_sum_of_channels():
    np.testing.assert_array_equal(mlfem.fem(jnp.array([[[1.0, 2.0, 4.0]]])), [[7.0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_channel_that_is_not_finite_adds_nothing(bad):
    good = relu_noise(4, (6, 6, 2))
    spoiled = np.concatenate([good, relu_noise(5, (6, 6, 1))], axis=-1)
    spoiled[2, 3, 2] = bad
    np.testing.assert_array_equal(mlfem.fem(jnp.asarray(spoiled)), mlfem.fem(jnp.asarray(good)))


@pytest.mark.parametrize("shape", [(5,), (0, 4, 3), (4, 4, 0), (2, 3, 4, 5, 6)])
def test_fem_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="activation: expected 1 to 3 spatial axes"):
        mlfem.fem(jnp.zeros(shape))


def test_normalize_reaches_both_ends_exactly():
    image = jnp.asarray(np.random.default_rng(9).standard_normal((9, 9)) * 1e4, jnp.float32)
    result = mlfem.normalize(image)
    assert (result.min(), result.max()) == (0, 1)
    np.testing.assert_allclose(result, reference.normalize(np.asarray(image)), atol=1e-6)


@pytest.mark.parametrize("image", [[[5.0, 5.0]], [[0.0, 0.0]], [[1.0, np.nan]], [[0.0, np.inf]], [[-np.inf, np.inf]]])
def test_normalize_of_a_blank_or_broken_map_is_zero(image):
    np.testing.assert_array_equal(mlfem.normalize(jnp.array(image)), [[0, 0]])


def test_normalize_has_a_finite_gradient_on_a_blank_map():
    gradient = jax.grad(lambda image: mlfem.normalize(image).sum())(jnp.ones((3, 3)))
    assert np.isfinite(gradient).all()


def test_importance_map_normalizes_after_the_interpolation():
    # One strong corner: its own center lies inside the picture, so the interpolated map reaches it only in the corner.
    activation = jnp.array([[[9.0], [0.0]], [[0.0], [0.0]]])
    expected = reference.normalize(reference.upsample(reference.fem(np.asarray(activation), 1.0), (6, 6)))
    np.testing.assert_allclose(mlfem.importance_map(activation, (6, 6), k=1.0), expected, atol=1e-6)


def test_layer_maps_keep_the_order_of_the_layers():
    first, second = relu_noise(10, (8, 8, 4)), relu_noise(11, (4, 4, 6))
    stack = mlfem.layer_maps({"z": jnp.asarray(first), "a": jnp.asarray(second)}, (16, 16), k=1.0)
    for found, activation in zip(stack, (first, second), strict=True):
        expected = reference.normalize(reference.upsample(reference.fem(activation, 1.0), (16, 16)))
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_layer_maps_refuse_another_number_of_grids():
    with pytest.raises(ValueError, match="grids: expected one for each of 1 layers, got 2"):
        mlfem.layer_maps({"a": jnp.zeros((3, 1))}, (6,), grids=[None, None])


def test_layer_maps_refuse_no_layers():
    with pytest.raises(ValueError, match="at least one layer"):
        mlfem.layer_maps({}, (4, 4))


def test_batched_by_vmap_equals_one_by_one():
    batch = jnp.asarray(relu_noise(12, (3, 10, 10, 5)))
    np.testing.assert_allclose(jax.vmap(mlfem.fem)(batch), np.stack([mlfem.fem(one) for one in batch]), rtol=1e-6)


def test_two_sided_by_hand():
    # Mean -2, deviation sqrt((4 + 4 + 4 + 36) / 4) = sqrt(12) = 3.46; only -8 lies that far from the mean.
    activation = jnp.array([[0.0], [0.0], [0.0], [-8.0]])
    np.testing.assert_array_equal(mlfem.fem(activation, k=1.0, sign="two_sided"), [0, 0, 0, 2])
    # As it is, strong would be -2 + 3.46 and above, which nothing reaches.
    np.testing.assert_array_equal(mlfem.fem(activation, k=1.0), [0, 0, 0, 0])
    np.testing.assert_array_equal(mlfem.fem(-activation, k=1.0, sign="two_sided"), mlfem.fem(-activation, k=1.0))


def test_a_channel_of_negative_mean_votes_against_its_strong_positions():
    # Mean -3, deviation sqrt((1 + 1 + 1 + 9) / 4) = sqrt(3) = 1.73; 0 is strong, and counts -3.
    activation = jnp.array([[-4.0], [-4.0], [-4.0], [0.0]])
    np.testing.assert_array_equal(mlfem.fem(activation, k=1.0), [0, 0, 0, -3])
    np.testing.assert_array_equal(mlfem.fem(activation, k=1.0, sign="two_sided"), [0, 0, 0, 3])
    np.testing.assert_array_equal(mlfem.fem(activation, k=1.0, sign="relu"), [0, 0, 0, 0])


def test_relu_by_hand():
    # After the ReLU 0, 0, 0, 4: mean 1, deviation sqrt(3); 4 >= 1 + 1.73.
    activation = jnp.array([[-4.0], [0.0], [-1.0], [4.0]])
    np.testing.assert_array_equal(mlfem.fem(activation, k=1.0, sign="relu"), [0, 0, 0, 1])


@pytest.mark.parametrize("sign", ["as_is", "relu", "two_sided"])
@pytest.mark.parametrize("k", [-1.0, 0.5, 2.0])
def test_signs_agree_with_loop(sign, k):
    activation = np.random.default_rng(10).standard_normal((9, 7, 6)).astype(np.float32) + np.float32(0.3)
    expected = reference.fem(activation, k, sign)
    np.testing.assert_allclose(mlfem.fem(jnp.asarray(activation), k=k, sign=sign), expected, rtol=1e-5, atol=1e-6)
    stack = mlfem.layer_maps({"a": jnp.asarray(activation)}, (9, 7), k=k, sign=sign)
    np.testing.assert_allclose(stack[0], reference.normalize(expected), atol=1e-5)


@pytest.mark.parametrize("sign", ["as_is", "relu", "two_sided"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_signs_add_nothing_of_a_channel_that_is_not_finite(sign, bad):
    spoiled = np.full((4, 4, 1), bad, np.float32)
    spoiled[0, 0] = 1
    np.testing.assert_array_equal(mlfem.fem(jnp.asarray(spoiled), sign=sign), np.zeros((4, 4)))


def test_without_values_below_zero_relu_changes_nothing():
    activation = jnp.asarray(relu_noise(11, (6, 6, 4)))
    np.testing.assert_array_equal(mlfem.fem(activation, sign="relu"), mlfem.fem(activation))


def test_layers_may_differ_in_sign():
    layers = {"a": jnp.array([[-4.0], [-4.0], [-4.0], [0.0]]), "b": jnp.array([[-4.0], [-4.0], [-4.0], [0.0]])}
    stack = mlfem.layer_maps(layers, (4,), k=1.0, sign=("as_is", "two_sided"))
    np.testing.assert_array_equal(stack, [[1, 1, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(ValueError, match="sign: expected one, or one for each of 2 layers, got 1"):
        mlfem.layer_maps(layers, (4,), sign=("as_is",))


def test_unknown_sign():
    with pytest.raises(ValueError, match="sign: expected one of as_is, relu, two_sided, got 'both'"):
        mlfem.fem(jnp.zeros((2, 2)), sign="both")
