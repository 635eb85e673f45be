"""The fusion networks against slow loops and hand-worked numbers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax.fusion.architectures import make_net
from mlfem_jax.fusion.network import PaperNet, UNet, predict
from mlfem_jax.training.fusion.step import Recipe, gfdms, initial_state, make_step


def stack(channels, height, width, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=(channels, height, width)).astype(np.float32))


def apply(net, params, maps):
    return net.apply(params, maps)


def jitted(net, maps, *, of=apply, seed=0, **options):
    return jax.jit(lambda maps: of(net, net.init(jax.random.key(seed)), maps, **options))(maps)


def slow_conv(maps, kernel, bias):
    """(C, H, W) by loops; edges repeated."""
    margin = kernel.shape[0] // 2
    padded = np.pad(maps, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    out = np.zeros((kernel.shape[3], *maps.shape[1:]))
    for y in range(maps.shape[1]):
        for x in range(maps.shape[2]):
            window = padded[:, y : y + kernel.shape[0], x : x + kernel.shape[1]]
            for channel in range(kernel.shape[3]):
                out[channel, y, x] = (window * np.moveaxis(kernel[..., channel], 2, 0)).sum() + bias[channel]
    return out


def slow_pool(maps):
    return (maps[:, ::2, ::2] + maps[:, 1::2, ::2] + maps[:, ::2, 1::2] + maps[:, 1::2, 1::2]) / 4


def test_net_is_three_convolutions_two_poolings_and_a_weighted_sum():
    net, maps = PaperNet(2), stack(2, 8, 12)
    params = jax.tree.map(lambda leaf: leaf + 0.01, net.init(jax.random.key(1)))
    kernels = [params["convs"][i] for i in range(3)]
    expected = np.asarray(maps, np.float64)
    for index, conv in enumerate(kernels):
        expected = np.maximum(slow_conv(expected, np.asarray(conv["kernel"]), np.asarray(conv["bias"])), 0)
        expected = slow_pool(expected) if index < 2 else expected
    expected = slow_conv(expected, np.asarray(params["weights"]["kernel"]), np.asarray(params["weights"]["bias"]))[0]
    assert expected.shape == (2, 3)
    np.testing.assert_allclose(net.apply(params, maps), expected, rtol=1e-4, atol=1e-5)
    assert [conv["kernel"].shape for conv in kernels] == [(3, 3, 2, 4), (3, 3, 4, 8), (3, 3, 8, 16)]


@pytest.mark.parametrize("layers", [1, 17])
def test_depth_is_multiplied_by_eight(layers):
    shapes = jax.eval_shape(lambda: PaperNet(layers).init(jax.random.key(0)))
    assert shapes["weights"]["kernel"].shape == (1, 1, 8 * layers, 1)


@pytest.mark.parametrize("size", [(32, 32), (50, 67), (224, 160), (9, 1)])
@pytest.mark.parametrize("net", [PaperNet(3), UNet(3, width=8, shrink=4), UNet(3, width=8, position=True)])
def test_any_size_gives_a_map_in_the_unit_range(net, size):
    importance = jitted(net, stack(3, *size), of=predict, shape=size)
    assert importance.shape == size
    assert bool(jnp.isfinite(importance).all()) and float(importance.min()) >= 0 and float(importance.max()) <= 1


def test_unet_gives_a_density():
    net = UNet(3, width=8, shrink=2)
    density = jitted(net, stack(3, 15, 22))
    assert density.shape == (15, 22) and float(density.min()) > 0
    np.testing.assert_allclose(density.sum(), 1, rtol=1e-5)


def test_a_constant_stack_gives_unet_without_position_no_preference():
    """Edges are repeated and nothing else tells it where the center is."""
    net = UNet(3, width=8, shrink=4)
    density = jitted(net, jnp.full((3, 16, 16), 0.5))
    np.testing.assert_allclose(density, density.mean(), rtol=1e-3)
    with_position = UNet(3, width=8, shrink=4, position=True)
    seen = jitted(with_position, jnp.full((3, 16, 16), 0.5))[3:-3, 3:-3]
    assert float(seen.std() / seen.mean()) > 0.01


def test_a_batch_changes_nothing():
    net, maps = UNet(2, width=8), jnp.stack([stack(2, 32, 32, seed) for seed in range(3)])
    params = net.init(jax.random.key(0))
    together = jax.jit(jax.vmap(lambda one: net.apply(params, one)))(maps)
    np.testing.assert_allclose(together[1], jitted(net, maps[1]), rtol=1e-4)


@pytest.mark.parametrize("net", [PaperNet(2, shrink=2), UNet(2, width=8, shrink=3, dropout=0.0)])
def test_the_loss_is_of_the_gfdm_averaged_over_the_strides(net):
    """Also where the frame, 20x29, is no multiple of the stride."""
    recipe, maps = Recipe(flips=False), stack(2, -(-20 // net.shrink), -(-29 // net.shrink))
    batch = {
        "maps": maps[None],
        "fixations": jnp.array([[[5.0, 7.0], [15.0, 28.0]]]),
        "fixation_mask": jnp.array([[True, True]]),
        "sigma_px": jnp.array([[3.0, 3.0]]),
        "mask": jnp.array([True]),
    }
    state = initial_state(net, recipe, 1)
    predicted = net.apply(state.params, maps)
    _, found = make_step(net, recipe, 1, (20, 29))(state, batch)
    gfdm, step = np.asarray(gfdms(batch, (20, 29))[0]), net.stride
    padded = np.pad(gfdm, ((0, -20 % step), (0, -29 % step)), mode="edge")
    rows, columns = padded.shape[0] // step, padded.shape[1] // step
    pooled = [
        [padded[i * step : (i + 1) * step, j * step : (j + 1) * step].mean() for j in range(columns)]
        for i in range(rows)
    ]
    expected = net.loss(predicted, jnp.array(pooled))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_dropout_needs_a_key():
    net, maps = UNet(2, width=8, dropout=0.5), stack(2, 64, 64)
    params = net.init(jax.random.key(0))
    dropped = jax.jit(lambda key: net.apply(params, maps, key=key))
    plain = jitted(net, maps)
    first, again, other = (dropped(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other) and not np.allclose(first, plain)


def test_losses_by_hand():
    gfdm = jnp.array([[0.2, 0.8]])
    np.testing.assert_allclose(PaperNet(1).loss(jnp.array([[0.5, 1.0]]), gfdm), 0.25**2 / 2, rtol=1e-6)
    expected = 0.2 * np.log(0.2 / 0.6) + 0.8 * np.log(0.8 / 0.4) + 1 - (-1)
    np.testing.assert_allclose(UNet(1).loss(jnp.array([[0.6, 0.4]]), gfdm), expected, rtol=1e-4)


@pytest.mark.parametrize("net", [PaperNet(2), UNet(2, width=8)])
def test_a_blank_gfdm_and_blank_maps_leave_loss_and_gradient_finite(net):
    params = net.init(jax.random.key(0))

    def of(params):
        prediction = net.apply(params, jnp.zeros((2, 32, 32)))
        return net.loss(prediction, jnp.zeros(prediction.shape))

    value, gradient = jax.jit(jax.value_and_grad(of))(params)
    chex.assert_tree_all_finite((value, gradient))


@pytest.mark.parametrize("net", [PaperNet(2), UNet(2, width=8)])
def test_the_gradient_of_the_loss_is_the_slope_of_the_loss(net):
    gfdm = stack(1, 4, 6)[0]
    chex.assert_numerical_grads(
        lambda prediction: net.loss(jnp.asarray(prediction), gfdm), (stack(1, 4, 6, 1)[0] + 0.1,), order=1
    )


def test_both_are_light():
    for net in (PaperNet(17), UNet(85)):
        assert sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda n=net: n.init(jax.random.key(0))))) < 2e5


def test_bad_arguments_are_named():
    net = PaperNet(2)
    with pytest.raises(ValueError, match=r"maps: expected a stack \(2, H, W\), got shape \(3, 8, 8\)"):
        net.apply(net.init(jax.random.key(0)), stack(3, 8, 8))
    with pytest.raises(ValueError, match="position"):
        make_net("net", channels=2, position=True)
    with pytest.raises(ValueError, match=r"architecture: expected one of net, unet, .*, weights, got 'vit'"):
        make_net("vit", channels=2)
    with pytest.raises(ValueError, match="dropout"):
        UNet(2, dropout=1.0)
    with pytest.raises(ValueError, match="at least 1"):
        UNet(0)
