"""Networks of sound, series, clips and volumes: the images of two axes, with one or three."""

import dataclasses
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn, nnx

import mlfem_jax as mlfem
from tests import reference

DIMENSIONS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def convolved(inputs, kernel, stride, padding):
    axes = inputs.ndim - 2
    return jax.lax.conv_general_dilated(
        inputs, kernel, (stride,) * axes, padding, dimension_numbers=DIMENSIONS[axes]
    )  # fmt: skip


def network(axes, channels=2, padding="SAME", **options):
    """Two convolutions over any number of axes, with a tap."""
    draw = np.random.default_rng(axes)
    params = {
        "first": draw.standard_normal((3,) * axes + (channels, 4)).astype(np.float32),
        "second": draw.standard_normal((3,) * axes + (4, 5)).astype(np.float32),
        "head": draw.standard_normal((5, 3)).astype(np.float32),
    }

    def apply(params, inputs, *, tap=lambda name, activation: activation):
        first = tap("first", jax.nn.relu(convolved(inputs, params["first"], 1, padding)))
        second = tap("second", jax.nn.relu(convolved(first, params["second"], 2, padding)))
        logits = second.mean(axis=tuple(range(1, axes + 1))) @ params["head"]
        return logits, OrderedDict(first=first, second=second)

    shape = {1: (12,), 2: (8, 6), 3: (4, 6, 8)}[axes]
    return mlfem.from_function(apply, params, input_shape=(*shape, channels), **options)


def examples(backbone, count=2, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *backbone.input_shape)).astype(np.float32)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_maps_have_the_spatial_axes_of_the_input(axes):
    backbone = network(axes)
    inputs = examples(backbone)
    maps = mlfem.explain(backbone, inputs, method="max", k=1.0)
    assert maps.shape == inputs.shape[:-1]
    _, activations = backbone.apply(backbone.params, jnp.asarray(inputs))
    for number, found in enumerate(maps):
        raw = [mlfem.upsample(mlfem.fem(one[number], k=1.0), found.shape) for one in activations.values()]
        stack = [reference.normalize(np.asarray(importance)) for importance in raw]
        np.testing.assert_allclose(found, reference.normalize(np.max(stack, axis=0)), atol=1e-5)


def test_photographs_are_the_case_of_two_axes():
    """The same network, told of photographs or of any data, gives the same maps, bit by bit."""
    any_data = network(2, channels=3)
    photos = dataclasses.replace(any_data, photos=True)
    pixels = np.random.default_rng(3).random((2, *any_data.input_shape), np.float32)
    for method, options in {
        "add": {},
        "grad_cam": {"target": 1},
        "occlusion": {"window_px": 3, "stride_px": 2},
    }.items():
        one, other = (mlfem.explain(net, pixels, method=method, **options) for net in (any_data, photos))
        np.testing.assert_array_equal(one, other)


def test_an_axis_for_one_channel_may_be_missing():
    def apply(params, signals):
        assert signals.ndim == 2
        return signals[:, :3], {"power": jnp.square(signals)[..., None]}

    backbone = mlfem.from_function(apply, (), input_shape=(16,), preprocess=lambda signals: signals * 2)
    assert (backbone.input_size, backbone.channels, backbone.input_shape) == ((16,), 1, (16, 1))
    signals = np.arange(32, dtype=np.int16).reshape(2, 16)
    expected = mlfem.explain(backbone, signals, method="fem")
    assert expected.shape == (2, 16)
    np.testing.assert_array_equal(mlfem.explain(backbone, signals[..., None], method="fem"), expected)
    np.testing.assert_array_equal(mlfem.explain(backbone, list(signals), method="fem"), expected)
    np.testing.assert_array_equal(list(mlfem.explain(backbone, iter(signals), method="fem")), expected)
    logits = next(mlfem.map_batches(backbone, signals[:1], lambda forward: forward.logits))
    assert logits.tolist() == [0, 2, 4]


@pytest.mark.parametrize("place", [24, 40, 60])
def test_a_network_without_padding_does_not_shift_its_map(place):
    """An impulse comes back where it was; its 17 positions spread over all 81 samples would move it up to 4 samples."""
    kernels = {"first": jnp.ones((9, 1, 1)), "second": jnp.ones((5, 1, 1))}

    def apply(params, inputs):
        first = convolved(inputs, params["first"], 2, "VALID")
        second = convolved(first, params["second"], 2, "VALID")
        return second.mean(axis=1), OrderedDict(first=first, second=second)

    first = mlfem.Grid.of_input(1).behind(9, stride=2)
    grids = {"first": first, "second": first.behind(5, stride=2)}
    signal = np.zeros((1, 81), np.float32)
    signal[0, place] = 1

    def center(grids, layer):
        backbone = mlfem.from_function(apply, kernels, input_shape=(81, 1), grids=grids, signs="as_is")
        (found,) = mlfem.explain(backbone, signal, method="fem", layers=layer, k=0.5)
        return np.average(np.arange(81), weights=found)

    for layer in ("first", "second"):
        assert center(grids, layer) == pytest.approx(place, abs=0.1)
    assert center(None, "second") == pytest.approx(40 + (place - 40) * 81 / 17 / 4, abs=0.1)


class Series(nnx.Module):
    def __init__(self, *, rngs):
        self.conv = nnx.Conv(2, 4, (3,), rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, inputs):
        return self.head(self.conv(inputs).mean(axis=1))


def test_flax_and_keras_take_any_shape():
    import keras

    linen = nn.Sequential([nn.Conv(4, (3,)), lambda x: x.mean(axis=1)])
    layers = [keras.layers.Conv1D(4, 3, padding="same", name="conv"), keras.layers.GlobalAveragePooling1D()]
    grid = {"conv": mlfem.Grid.of_input(1)}
    backbones = [
        mlfem.from_nnx(Series(rngs=nnx.Rngs(0)), ["conv"], input_shape=(12, 2), signs="relu", grids=grid),
        mlfem.from_linen(
            linen,
            linen.init(jax.random.key(0), jnp.zeros((1, 12, 2))),
            ["layers_0"],
            input_shape=(12, 2),
            signs="relu",
        ),
        mlfem.from_keras(
            keras.Sequential([keras.Input((12, 2)), *layers]), ["conv"], input_shape=(12, 2), signs="relu"
        ),
    ]
    for backbone in backbones:
        maps = mlfem.explain(backbone, examples(backbone), method="fem", k=1.0)
        assert maps.shape == (2, 12)
        assert np.ptp(maps, axis=1).tolist() == pytest.approx([1, 1])


def test_other_lengths_go_in_where_they_are_asked_for():
    backbone = network(1)
    longer = examples(network(1), 1)[:, [*range(12), *range(8)]]
    with pytest.raises(ValueError, match=r"expected examples of shape \(12, 2\), got \(20, 2\); other lengths go"):
        mlfem.explain(backbone, longer)
    mixed = [longer[0], examples(backbone)[0]]
    maps = mlfem.explain(backbone, mixed, resize="native", method="fem")
    assert [found.shape for found in maps] == [(20,), (12,)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, data: mlfem.explain(net, data[..., :1]), r"of shape \(12, 2\), got \(12, 1\)"),
        (lambda net, data: mlfem.explain(net, [data[0, 0]]), r"images\[0\]: expected an example of shape"),
        (lambda net, data: mlfem.explain(net, data.astype(complex)), "images: expected real numbers, got complex128"),
        (lambda net, data: mlfem.explain(net, data, output="photo"), "output: expected 'input' for data other than"),
        (lambda net, data: mlfem.explain(net, data, frame=(8, 8)), "frame: expected none for data other than photogr"),
        (lambda net, data: mlfem.explain(net, data, resize="crop"), "resize: expected none for data other than photo"),
        (lambda net, data: mlfem.explain(net, data, method="net"), "'custom'"),
        (lambda net, data: mlfem.explain(net, data, method="rollout"), "expected a network with attention"),
        (lambda net, data: mlfem.explain(net, data, method="lrp"), "data other than photographs"),
        (lambda net, data: mlfem.explain(net, data, method="lrp", first="same"), "exchangeable backward rules"),
        (lambda net, data: mlfem.explain(net, data, method="occlusion", baseline="white"), "'black' or 'zero'"),
        (lambda net, data: mlfem.explain(net, data, method="occlusion", window_px=(3, 3)), "each of the 1 axes"),
        (lambda net, data: net.photo_size, "expected a network of photographs, got 'custom'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(call, message):
    backbone = network(1)
    with pytest.raises(ValueError, match=message):
        call(backbone, examples(backbone))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "input_shape: expected either it, .* got neither"),
        ({"input_shape": (8, 3), "input_size": (8, 8)}, "got both"),
        ({"input_shape": (8, 0)}, "one to four lengths of at least 1, got"),
        ({"input_shape": (8, 8, 8, 3)}, r"the activation 'a' to be \(N, t, h, w, C\), with the spatial axes"),
        ({"input_shape": (8,)}, r"the activation 'a' to be \(N, l, C\)"),
        (
            {"input_shape": (8, 3), "preprocess": lambda x: x[:, ::2]},
            "preprocess: expected a function that keeps the sh",
        ),
        ({"input_shape": (8, 3), "grids": {"b": mlfem.Grid.of_input(1)}}, "grids: expected layers among a, got 'b'"),
        ({"input_shape": (8, 3), "grids": {"a": mlfem.Grid.of_input(2)}}, "grids: expected 1 axes, those of the input"),
    ],
)
def test_backbones_that_are_none_say_why(options, message):
    def apply(params, inputs):
        flat = inputs.reshape(len(inputs), -1)
        return flat, {"a": flat[:, :4, None] if inputs.ndim != 2 else flat}

    with pytest.raises(ValueError, match=message):
        mlfem.from_function(apply, (), **options)
