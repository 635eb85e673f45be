import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax.upsampling import _interpolate_by_gathers, _interpolate_by_product
from tests import reference


def noise(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (3, 2), (5, 4), (1, 1)])
def test_upsample_agrees_with_loop(shape):
    image = np.random.default_rng(6).random((4, 3)).astype(np.float32)
    np.testing.assert_allclose(mlfem.upsample(jnp.asarray(image), shape), reference.upsample(image, shape), atol=1e-6)


def test_upsample_agrees_with_jax_image():
    image = jnp.asarray(np.random.default_rng(7).random((7, 7)), jnp.float32)
    np.testing.assert_allclose(
        mlfem.upsample(image, (224, 224)), jax.image.resize(image, (224, 224), "linear"), atol=1e-6
    )


def test_upsample_of_one_value_is_constant():
    np.testing.assert_array_equal(mlfem.upsample(jnp.array([[3.0]]), (5, 6)), np.full((5, 6), 3.0))


def test_upsample_in_three_dimensions():
    volume = np.random.default_rng(8).random((2, 3, 2)).astype(np.float32)
    np.testing.assert_allclose(
        mlfem.upsample(jnp.asarray(volume), (4, 5, 3)), reference.upsample(volume, (4, 5, 3)), atol=1e-6
    )


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4), (0, 4)])
def test_upsample_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="shape: expected 2 positive sizes"):
        mlfem.upsample(jnp.zeros((2, 2)), shape)


@pytest.mark.parametrize(("length", "size"), [(7, 224), (5, 3), (1, 4), (2, 2), (56, 60)])
def test_both_forms_of_interpolation_agree(length, size):
    importance = jnp.asarray(noise(3, (length, 6)))
    places = (np.arange(size) + 0.5) * length / size - 0.5
    product = _interpolate_by_product(importance, axis=0, places=places)
    np.testing.assert_allclose(_interpolate_by_gathers(importance, axis=0, places=places), product, atol=1e-6)
    turned = _interpolate_by_gathers(importance.T, axis=1, places=places)
    np.testing.assert_allclose(turned, product.T, atol=1e-6)


def seen_by(length, layers):
    """First and last sample that each position behind the layers (kernel, stride, padding, dilation) sees."""
    fields = [(sample, sample) for sample in range(length)]
    for kernel, stride, padding, dilation in layers:
        spread = (kernel - 1) * dilation
        starts = range(-padding, len(fields) + padding - spread, stride)
        # A padded position lies where the line of positions would go on.
        step = fields[1][0] - fields[0][0]
        at = [(fields[0][0] + i * step, fields[0][1] + i * step) for i in range(-padding, len(fields) + padding)]
        fields = [(at[start + padding][0], at[start + padding + spread][1]) for start in starts]
    return fields


@pytest.mark.parametrize(
    "layers",
    [
        [(8, 4, 0, 1)],
        [(3, 1, 1, 1), (2, 2, 0, 1)],
        [(5, 2, 0, 1), (3, 1, 0, 4), (2, 2, 0, 1)],
        [(4, 3, 2, 2), (3, 2, 1, 1)],
    ],
)
def test_a_grid_is_at_the_center_of_what_each_position_sees(layers):
    grid = mlfem.Grid.of_input(1)
    for kernel, stride, padding, dilation in layers:
        grid = grid.behind(kernel, stride=stride, padding=padding, dilation=dilation)
    for position, (first, last) in enumerate(seen_by(120, layers)[:8]):
        assert grid.offset[0] + position * grid.stride[0] == (first + last) / 2


def test_axes_of_a_grid_are_each_for_itself():
    grid = mlfem.Grid.of_input(2).behind((3, 5), stride=(1, 2), padding=(1, 0))
    assert (grid.stride, grid.offset) == ((1.0, 2.0), (0.0, 2.0))


def test_a_map_is_laid_where_its_grid_says():
    placed = mlfem.upsample(jnp.array([0.0, 4.0, 0.0]), (9,), grid=mlfem.Grid((2.0,), (3.0,)))
    assert placed.tolist() == [0, 0, 0, 0, 2, 4, 2, 0, 0]
    even = mlfem.Grid((3.0, 2.0), (1.0, 0.5))
    importance = jnp.asarray(noise(5, (4, 5)))
    np.testing.assert_allclose(
        mlfem.upsample(importance, (12, 10), grid=even), mlfem.upsample(importance, (12, 10)), atol=1e-6
    )
    shifted = mlfem.upsample(jnp.array([1.0, 2.0, 3.0]), (3,), grid=mlfem.Grid((1.0,), (1.0,)))
    assert shifted.tolist() == [1, 1, 2]


def test_grids_that_make_no_sense():
    with pytest.raises(ValueError, match="grid: expected a stride above 0"):
        mlfem.Grid((0.0,), (1.0,))
    with pytest.raises(ValueError, match="grid: expected a stride above 0 and an offset for each axis"):
        mlfem.Grid((1.0, 2.0), (1.0,))
    with pytest.raises(ValueError, match="grid: expected 1 axes, those of the map, got 2"):
        mlfem.upsample(jnp.zeros(3), (6,), grid=mlfem.Grid.of_input(2))
