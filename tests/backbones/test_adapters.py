from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn, nnx

import mlfem_jax as mlfem
from mlfem_jax.attribution.target import class_score
from tests.networks import photographs


class Block(nnx.Module):
    def __init__(self, channels_in, channels_out, *, rngs):
        self.conv = nnx.Conv(channels_in, channels_out, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(channels_out, rngs=rngs)

    def __call__(self, inputs):
        return jax.nn.relu(self.norm(self.conv(inputs)))


class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.blocks = nnx.List([Block(3, 4, rngs=rngs), Block(4, 6, rngs=rngs)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return self.head(self.dropout(inputs.mean(axis=(1, 2))))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, inputs, train: bool = True):
        for features in (4, 6):
            inputs = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(features, (3, 3))(inputs)))
        return nn.Dense(5)(inputs.mean(axis=(1, 2)))


INPUTS = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)


def test_nnx_gives_its_own_logits_and_activations():
    net = Net(rngs=nnx.Rngs(0))
    backbone = mlfem.from_nnx(net, ["blocks.0", "blocks.1"], input_size=(8, 8))
    logits, activations = backbone.apply(backbone.params, INPUTS)
    net.eval()
    first = net.blocks[0](INPUTS)
    np.testing.assert_allclose(logits, net(INPUTS), rtol=1e-6)
    np.testing.assert_allclose(activations["blocks.0"], first, rtol=1e-6)
    np.testing.assert_allclose(activations["blocks.1"], net.blocks[1](first), rtol=1e-6)


def test_nnx_takes_submodules_behind_a_functional_relu():
    net = Net(rngs=nnx.Rngs(0))
    backbone = mlfem.from_nnx(net, ["blocks.1.norm"], input_size=(8, 8), activation=jax.nn.relu)
    _, activations = backbone.apply(backbone.params, INPUTS)
    net.eval()
    np.testing.assert_allclose(activations["blocks.1.norm"], net.blocks[1](net.blocks[0](INPUTS)), rtol=1e-6)


def test_nnx_module_is_left_as_it_was():
    net = Net(rngs=nnx.Rngs(0))
    mlfem.explain(mlfem.from_nnx(net, ["blocks.0"], input_size=(8, 8)), photographs(2))
    assert isinstance(net.blocks[0], Block)
    assert not net.dropout.deterministic


def test_linen_gives_its_own_logits_and_activations():
    net = LinenNet()
    variables = net.init(jax.random.key(0), INPUTS)
    backbone = mlfem.from_linen(
        net,
        variables,
        ["BatchNorm_0", "BatchNorm_1"],
        input_size=(8, 8),
        activation=nn.relu,
        arguments={"train": False},
    )
    logits, activations = backbone.apply(backbone.params, INPUTS)
    np.testing.assert_allclose(logits, net.apply(variables, INPUTS, train=False), rtol=1e-6)
    features = INPUTS
    for index, name in enumerate(backbone.layers):
        conv = variables["params"][f"Conv_{index}"]
        features = jax.lax.conv_general_dilated(
            features, conv["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        features = nn.relu((features + conv["bias"][None, None, None]) / np.sqrt(np.float32(1 + 1e-5)))
        np.testing.assert_allclose(activations[name], features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_adapted_networks_go_through_explain(kind):
    if kind == "nnx":
        backbone = mlfem.from_nnx(Net(rngs=nnx.Rngs(0)), ["blocks.0", "blocks.1"], input_size=(8, 8))
    else:
        net = LinenNet()
        variables = net.init(jax.random.key(0), INPUTS)
        backbone = mlfem.from_linen(
            net, variables, ["Conv_0", "Conv_1"], input_size=(8, 8), activation=nn.relu, arguments={"train": False}
        )
    photos = photographs(2)
    _, activations = backbone.apply(backbone.params, backbone.preprocess(photos))
    expected = jax.vmap(lambda example: mlfem.fuse(mlfem.layer_maps(example, (8, 8)), operator="max"))(activations)
    np.testing.assert_allclose(mlfem.explain(backbone, photos, method="max"), expected, atol=1e-6)


def test_layers_keep_the_order_of_the_network():
    def apply(params, inputs):
        return inputs.mean(axis=(1, 2)), {"z": inputs, "a": inputs}

    backbone = mlfem.from_function(apply, (), input_size=(8, 8))
    assert backbone.layers == ("z", "a")
    _, activations = jax.jit(backbone.apply)((), INPUTS)
    assert list(activations) == ["z", "a"]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: x.mean(axis=(1, 2)), r"expected \(logits, dict of activations\)"),
        (lambda x: (x.mean(axis=(1, 2)), {}), r"expected \(logits, dict of activations\)"),
        (lambda x: (x, {"a": x}), r"expected logits of shape \(N, classes\)"),
        (lambda x: (x.mean(axis=(1, 2)), {"a": x[0]}), r"expected the activation 'a' to be \(N, h, w, C\)"),
    ],
)
def test_functions_that_are_no_backbone(outputs, message):
    with pytest.raises(ValueError, match=message):
        mlfem.from_function(lambda params, inputs: outputs(inputs), (), input_size=(8, 8))


def test_labels_must_be_as_many_as_the_logits():
    def apply(params, inputs):
        return inputs.mean(axis=(1, 2)), OrderedDict(a=inputs)

    with pytest.raises(ValueError, match="expected 3 names, one for each logit, got 2"):
        mlfem.from_function(apply, (), input_size=(8, 8), labels=["cat", "dog"])


def test_paths_that_do_not_exist_name_what_does():
    with pytest.raises(ValueError, match=r"expected the path of a module, got 'blocks\.7'"):
        mlfem.from_nnx(Net(rngs=nnx.Rngs(0)), ["blocks.7"], input_size=(8, 8))
    with pytest.raises(ValueError, match=r"expected the path of a module, got 'stem'.*there is .*blocks"):
        mlfem.from_nnx(Net(rngs=nnx.Rngs(0)), ["stem"], input_size=(8, 8))
    net = LinenNet()
    variables = net.init(jax.random.key(0), INPUTS)
    with pytest.raises(ValueError, match=r"that the network calls, got Conv_9; it called .*Conv_0"):
        mlfem.from_linen(net, variables, ["Conv_9"], input_size=(8, 8), arguments={"train": False})
    assert jnp.isfinite(net.apply(variables, INPUTS, train=False)).all()


class TappedNet(nnx.Module):
    """Its non-linearities are modules, so that a tap can stand behind them."""

    def __init__(self, *, rngs):
        self.first, self.second = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs)
        self.relu, self.last = Relu(), Relu()
        self.head = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, inputs):
        features = self.last(self.second(self.relu(self.first(inputs))))
        return self.head(features.mean(axis=(1, 2)))


class Relu(nnx.Module):
    def __call__(self, inputs):
        return jax.nn.relu(inputs)


class LinenRelu(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.relu(inputs)


class TappedLinenNet(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        inputs = LinenRelu(name="relu")(nn.Conv(4, (3, 3), name="first")(inputs))
        inputs = LinenRelu(name="last")(nn.Conv(6, (3, 3), strides=2, name="second")(inputs))
        return nn.Dense(5, name="head")(inputs.mean(axis=(1, 2)))


def tapped_function(params, inputs, *, tap=lambda name, activation: activation):
    """The same network as a plain function."""

    def conv(inputs, layer, stride):
        axes = ("NHWC", "HWIO", "NHWC")
        outputs = jax.lax.conv_general_dilated(inputs, layer["kernel"], (stride,) * 2, "SAME", dimension_numbers=axes)
        return outputs + layer["bias"][None, None, None]

    first = tap("relu", jax.nn.relu(conv(inputs, params["first"], 1)))
    last = tap("last", jax.nn.relu(conv(first, params["second"], 2)))
    logits = last.mean(axis=(1, 2)) @ params["head"]["kernel"] + params["head"]["bias"][None]
    return logits, OrderedDict(relu=first, last=last)


@pytest.fixture(scope="module")
def same_network():
    """The network by each adapter."""
    net = TappedNet(rngs=nnx.Rngs(0))
    params = {
        name: {"kernel": layer.kernel[...], "bias": layer.bias[...] + 0.1}
        for name, layer in (("first", net.first), ("second", net.second), ("head", net.head))
    }
    for name, arrays in params.items():
        getattr(net, name).bias[...] = arrays["bias"]
    return {
        "function": mlfem.from_function(tapped_function, params, input_size=(8, 8)),
        "nnx": mlfem.from_nnx(net, ["relu", "last"], input_size=(8, 8)),
        "linen": mlfem.from_linen(TappedLinenNet(), {"params": params}, ["relu", "last"], input_size=(8, 8)),
    }


@pytest.mark.parametrize("kind", ["nnx", "linen"])
@pytest.mark.parametrize("layer", ["relu", "last"])
@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_pp", "layer_cam", "hires_cam", "xgrad_cam"])
def test_gradients_at_a_layer_are_those_of_the_plain_function(same_network, kind, layer, method):
    found, expected = (
        mlfem.explain(same_network[name], photographs(2), method=method, layers=layer, target=[1, 3])
        for name in (kind, "function")
    )
    assert np.ptp(expected) == pytest.approx(1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_taps_change_what_the_network_goes_on_with(same_network, kind):
    def doubled(name, activation):
        return activation * 2 if name == "relu" else activation

    inputs = jnp.asarray(INPUTS)
    found, expected = (
        same_network[name].apply(same_network[name].params, inputs, tap=doubled) for name in (kind, "function")
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    for name in ("relu", "last"):
        np.testing.assert_allclose(found[1][name], expected[1][name], rtol=1e-5, atol=1e-6)


def test_what_an_adapted_network_cannot_do_is_said(same_network):
    for kind in ("nnx", "linen"):
        for method in ("guided_backprop", "deconvnet", "lrp"):
            with pytest.raises(ValueError, match=r"with exchangeable backward rules.*Every other method works"):
                mlfem.explain(same_network[kind], photographs(1), method=method)
    net = Net(rngs=nnx.Rngs(0))
    behind = mlfem.from_nnx(net, ["blocks.0.norm"], input_size=(8, 8), activation=jax.nn.relu)
    with pytest.raises(ValueError, match="make the non-linearity a submodule"):
        mlfem.explain(behind, photographs(1), method="grad_cam")


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_a_layer_that_is_called_twice_has_no_one_gradient(kind):
    class Twice(nnx.Module):
        def __init__(self):
            self.relu = Relu()

        def __call__(self, inputs):
            return self.relu(self.relu(inputs) - 1).mean(axis=(1, 2))

    class LinenTwice(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            relu = LinenRelu(name="relu")
            return relu(relu(inputs) - 1).mean(axis=(1, 2))

    if kind == "nnx":
        backbone = mlfem.from_nnx(Twice(), ["relu"], input_size=(8, 8))
    else:
        backbone = mlfem.from_linen(LinenTwice(), {}, ["relu"], input_size=(8, 8))
    inputs = jnp.asarray(INPUTS)
    np.testing.assert_allclose(backbone.apply(backbone.params, inputs)[1]["relu"], np.maximum(INPUTS, 0).clip(1) - 1)
    with pytest.raises(ValueError, match="got 'relu', which it calls more than once"):
        mlfem.explain(backbone, photographs(1), method="grad_cam")


def test_a_network_of_gray_images_says_what_to_do():
    class Gray(nnx.Module):
        def __init__(self, *, rngs):
            self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)

        def __call__(self, inputs):
            return self.conv(inputs).mean(axis=(1, 2))

    net = Gray(rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"one that takes 1 channel\. Let it take red, green and blue, and begin with"):
        mlfem.from_nnx(net, ["conv"], input_size=(8, 8), preprocess=lambda images: images[..., :1])
    linen = nn.Sequential([nn.Conv(4, (3, 3)), lambda x: x.mean(axis=(1, 2))])
    variables = linen.init(jax.random.key(0), INPUTS[..., :1])
    with pytest.raises(ValueError, match=r"one that takes 1 channel"):
        mlfem.from_linen(linen, variables, ["layers_0"], input_size=(8, 8))


def test_a_single_logit_is_read_by_sigmoid():
    def of(classes):
        return mlfem.from_function(
            lambda params, inputs: (inputs.mean(axis=(1, 2))[:, :classes], OrderedDict(a=inputs)), (), input_size=(8, 8)
        )

    one, many = of(1), of(3)
    assert (one.output, many.output) == ("sigmoid", "softmax")
    logits = jnp.array([[0.0]])
    assert class_score(logits, jnp.zeros((1, 1), int), "probability", one.output).tolist() == [0.5]
    found = class_score(logits, jnp.zeros((1, 1), int), "log_probability", one.output)
    assert found.tolist() == pytest.approx([np.log(0.5)])
