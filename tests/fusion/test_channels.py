"""FEM with learned channel weights: by hand, by slow loops, and as fem's own formula."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax.fusion.channel_nets import ChannelNet, ChannelSum
from mlfem_jax.fusion.channels import channel_maps, contributions, pack, packed_maps, strong_positions
from mlfem_jax.fusion.network import predict
from mlfem_jax.importance import fem

KS = (0.5, 1.5)
SHAPES = [(7, 3), (5, 6, 11), (3, 4, 2, 9)]


def drawn(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def slow_maps(activation, weights, ks):
    """(K m, *S) by loops over k, weight vectors, positions and channels."""
    activation, weights = np.asarray(activation, np.float64), np.asarray(weights)
    *space, depth = activation.shape
    maps = np.zeros((weights.shape[0] * weights.shape[1], *space))
    for (i, k), m in itertools.product(enumerate(ks), range(weights.shape[1])):
        for channel in range(depth):
            values = activation[..., channel]
            threshold = values.mean() + k * values.std()
            for place in itertools.product(*map(range, space)):
                if values[place] >= threshold:
                    maps[(i * weights.shape[1] + m, *place)] += weights[i, m, channel]
    return maps


def test_by_hand():
    """Channel 0 is strong at the last position alone, channel 1 at the first, channel 2 nowhere: it is constant."""
    activation = jnp.array([[0.0, 9.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [8.0, 0.0, 1.0]])
    weights = jnp.array([[[0.5, -2.0, 100.0], [3.0, 0.0, 100.0]]])
    np.testing.assert_allclose(channel_maps(activation, weights, ks=(1.0,)), [[-2, 0, 0, 0.5], [0, 0, 0, 3]])
    np.testing.assert_array_equal(strong_positions(activation, (1.0,))[0].argmax(axis=0), [3, 0, 0])


@pytest.mark.parametrize("shape", SHAPES)
def test_against_loops_over_any_number_of_axes(shape):
    activation, weights = drawn(shape), drawn((2, 3, shape[-1]), 1)
    np.testing.assert_allclose(channel_maps(activation, weights, ks=KS), slow_maps(activation, weights, KS), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_map_is_fem_with_these_weights(shape):
    activation, weights = drawn(shape), drawn((2, 2, shape[-1]), 1)
    each = [fem(activation, k=k, weights=weights[i, m]) for i, k in enumerate(KS) for m in range(2)]
    np.testing.assert_allclose(channel_maps(activation, weights, ks=KS), jnp.stack(each), atol=1e-5)


@pytest.mark.parametrize("sign", ["as_is", "two_sided"])
@pytest.mark.parametrize("shape", SHAPES)
def test_fem_is_the_formula_with_the_means_as_weights(shape, sign):
    activation = drawn(shape) + 0.3
    mean = activation.reshape(-1, shape[-1]).mean(axis=0)
    weights = jnp.abs(mean) if sign == "two_sided" else mean
    np.testing.assert_allclose(
        fem(activation, k=0.7, sign=sign, weights=weights), fem(activation, k=0.7, sign=sign), atol=1e-5
    )


@pytest.mark.parametrize("depth", [1, 8, 11])
def test_packed_positions_give_the_same_maps_and_the_gradient(depth):
    activation, weights = drawn((4, 5, depth)), drawn((2, 3, depth), 1)
    strong = strong_positions(activation, KS)
    packed = pack(strong)
    assert packed.shape == (2, 4, 5, -(-depth // 8)) and packed.dtype == np.uint8
    np.testing.assert_allclose(packed_maps(packed, weights), channel_maps(activation, weights, ks=KS), atol=1e-5)
    pull = drawn((6, 4, 5), 2)
    gradient = jax.grad(lambda weights: jnp.vdot(packed_maps(packed, weights), pull))(weights)
    expected = np.einsum("kmyx,kyxc->kmc", np.asarray(pull).reshape(2, 3, 4, 5), strong)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_contributions_sum_to_the_map_exactly():
    activation, weights = drawn((5, 6, 11)), drawn((2, 3, 11), 1)
    given = contributions(activation, weights, ks=KS)
    assert given.shape == (11, 5, 6)
    np.testing.assert_allclose(given.sum(axis=0), channel_maps(activation, weights, ks=KS).sum(axis=0), atol=1e-5)
    only = jnp.eye(11).reshape(11, 1, 1, 11)
    alone = [channel_maps(activation, weights * one, ks=KS).sum(axis=0) for one in only]
    np.testing.assert_allclose(given, jnp.stack(alone), atol=1e-5)


def test_channels_that_do_not_vary_or_are_not_finite_count_nowhere():
    activation = np.array(drawn((4, 4, 4)))
    activation[..., 1] = 5
    activation[..., 2] = 5 + 1e-5 * activation[..., 2]
    activation[0, 0, 3] = np.nan
    strong = strong_positions(jnp.asarray(activation), (0.5,))[0]
    assert strong[..., 0].any() and not strong[..., 1:].any()
    assert not channel_maps(jnp.zeros((4, 4, 4)), jnp.ones((1, 1, 4)), ks=(1.0,)).any()


def test_nothing_of_the_activations_size_is_written():
    activation, weights = jnp.ones((64, 48, 96)), jnp.ones((2, 4, 96))
    compiled = jax.jit(lambda a, w: channel_maps(a, w, ks=KS)).lower(activation, weights).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < activation.nbytes / 4


def test_other_numbers_of_channels_are_named():
    with pytest.raises(ValueError, match=r"weights: expected \(2, m, 4\) .* got \(2, 1, 3\)"):
        channel_maps(jnp.ones((2, 2, 4)), jnp.ones((2, 1, 3)), ks=KS)
    with pytest.raises(ValueError, match=r"weights: expected one for each of 4 channels, got \(3,\)"):
        fem(jnp.ones((2, 2, 4)), weights=jnp.ones(3))
    with pytest.raises(ValueError, match="depths: expected the channels of each layer"):
        ChannelNet(3, depths=(4, 5))
    with pytest.raises(ValueError, match="thinning: expected a share"):
        ChannelNet(2, depths=(4, 5), thinning=1.0)


def nets():
    return [ChannelNet(4, depths=(5, 9), width=8, levels=2), ChannelSum(4, depths=(5, 9), signed=False),
            ChannelSum(4, depths=(5, 9))]  # fmt: skip


def layers(seed=0):
    return {"fine": drawn((8, 12, 5), seed), "coarse": drawn((4, 6, 9), seed + 1)}


@pytest.mark.parametrize("net", nets(), ids=lambda net: f"{net.architecture}, signed {net.signed}")
def test_activations_and_kept_positions_give_one_stack_and_a_density(net):
    params, activations = net.init(jax.random.key(0)), layers()
    stack = net.read(params, activations, (8, 12), layers=tuple(activations), ks=KS)
    kept = tuple(pack(strong_positions(activation, KS)) for activation in activations.values())
    np.testing.assert_allclose(net.stack(params, kept, (8, 12)), stack, atol=1e-5)
    assert stack.shape == (net.reads, 8, 12)
    importance = predict(net, params, stack, (30, 41))
    assert importance.shape == (30, 41) and float(importance.min()) >= 0 and float(importance.max()) <= 1
    if not net.signed:
        assert all((weights >= 0).all() for weights in net.weights(params)) and (stack >= 0).all()
        np.testing.assert_allclose(net.apply(params, stack).sum(), 1, rtol=1e-5)


def test_linear_is_the_sum_of_all_channels_blurred():
    net, activations = ChannelSum(4, depths=(5, 9)), layers()
    params = net.init(jax.random.key(0))
    weights = net.weights(params)
    parts = [
        jax.image.resize(contributions(a, w, ks=KS).sum(axis=0), (8, 12), "linear")
        for a, w in zip(activations.values(), weights, strict=True)
    ]
    summed, sigma = np.asarray(sum(parts)), 1.3
    y, x = np.mgrid[:8, :12]
    rows = np.exp(-((y[:, :1] - np.arange(8)) ** 2) / (2 * sigma**2))
    columns = np.exp(-((x[0][:, None] - np.arange(12)) ** 2) / (2 * sigma**2))
    blurred = (rows / rows.sum(axis=1, keepdims=True)) @ summed @ (columns / columns.sum(axis=1, keepdims=True)).T
    stack = net.read(params, activations, (8, 12), layers=tuple(activations), ks=KS)
    np.testing.assert_allclose(net.apply(params, stack), blurred / blurred.sum(), atol=1e-6)


@pytest.mark.parametrize("net", nets(), ids=lambda net: f"{net.architecture}, signed {net.signed}")
def test_loss_and_gradient_are_finite_for_nothing_to_see(net):
    params = net.init(jax.random.key(0))
    kept = tuple(jnp.zeros((2, 4, 6, -(-depth // 8)), jnp.uint8) for depth in net.depths)

    def loss(params):
        density = net.apply(params, net.stack(params, kept, (4, 6)))
        return net.loss(density, jnp.zeros((4, 6)))

    value, gradient = jax.value_and_grad(loss)(params)
    assert jnp.isfinite(value) and all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


def test_thinning_blanks_whole_channels_and_keeps_the_sum():
    net = ChannelNet(4, depths=(400, 9), thinning=0.25)
    params = net.init(jax.random.key(0))
    full, thin = net.weights(params)[0], net.weights(net.thinned(params, jax.random.key(1)))[0]
    gone = np.asarray(thin == 0)
    assert (gone == gone[:, :1]).all() and 0.15 < gone.mean() < 0.35  # of all weight vectors alike
    np.testing.assert_allclose(thin[~gone], full[~gone] / 0.75, rtol=1e-5)
