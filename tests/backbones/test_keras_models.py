"""Keras models as backbones: values and gradients as Keras and jax.grad give them on the model cut in two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs Keras")
if keras.backend.backend() != "jax":
    pytest.skip("needs Keras on JAX: KERAS_BACKEND=jax", allow_module_level=True)

from mlfem_jax import explain  # noqa: E402
from mlfem_jax.backbones.forward import forward_pass  # noqa: E402
from mlfem_jax.backbones.keras_models import from_keras  # noqa: E402

LAYERS = ("first", "sum")


@pytest.fixture(autouse=True)
def _promotion():
    """Keras's own arithmetic promotes ranks."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def model():
    """Two branches that meet, batch norm with statistics of its own, dropout, a dense head."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    first = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    inner = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 3, padding="same")(first))
    both = keras.layers.Add(name="sum")([first, keras.layers.ReLU()(inner)])
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Dropout(0.5)(both))
    model = keras.Model(inputs, keras.layers.Dense(5, name="head")(pooled), name="branches")
    random = np.random.default_rng(0)
    for variable in model.get_layer("norm").variables:
        variable.assign(random.uniform(0.5, 2, variable.shape))
    return model


def images(count=3, size=16):
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def scaled(images):
    return jnp.asarray(images, jnp.float32) / 255


def test_logits_and_activations_are_kerass_own(model):
    backbone = from_keras(model, LAYERS, input_size=(16, 16), preprocess=scaled)
    assert backbone.name == "branches" and backbone.layers == LAYERS
    forward = forward_pass(backbone, images())
    inner = keras.Model(model.inputs, [model.get_layer(name).output for name in LAYERS])(scaled(images()))
    np.testing.assert_allclose(forward.logits, model(scaled(images()), training=False), atol=1e-5)
    for name, expected in zip(LAYERS, inner, strict=True):
        np.testing.assert_allclose(forward.activations[name], expected, atol=1e-5)


def test_the_gradient_at_a_layer_is_that_of_the_rest_of_the_model(model):
    """HiResCAM is the sum over channels of activation times gradient; cut at `sum`, the rest is a model of its own."""
    backbone = from_keras(model, LAYERS, input_size=(16, 16), preprocess=scaled)
    maps = explain(backbone, images(), method="hires_cam", layers=("sum",), target=2, raw=True)
    rest = keras.Model(model.get_layer("sum").output, model.outputs)
    activation = keras.Model(model.inputs, model.get_layer("sum").output)(scaled(images()))
    gradient = jax.grad(lambda activation: rest(activation, training=False)[:, 2].sum())(jnp.asarray(activation))
    np.testing.assert_allclose(np.stack(maps), np.maximum((activation * gradient).sum(axis=-1), 0), atol=1e-6)


def test_the_model_is_as_it_was_and_may_be_explained_again(model):
    before = model(scaled(images()), training=False)
    for _ in range(2):
        explain(from_keras(model, ("sum",), input_size=(16, 16), preprocess=scaled), images(), method="grad_cam")
    np.testing.assert_array_equal(model(scaled(images()), training=False), before)
    assert not [layer.name for layer in model.layers if "heard" in layer.name]


def test_a_sequential_model_of_keras_applications_form():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Conv2D(4, 3, activation="relu", name="conv"), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.layers.Input((8, 8, 3)), *layers])
    backbone = from_keras(model, ["conv"], input_size=(8, 8), preprocess=scaled)
    np.testing.assert_allclose(forward_pass(backbone, images(size=8)).logits, model(scaled(images(size=8))), atol=1e-5)


def test_what_cannot_be_explained_says_why(model, monkeypatch):
    with pytest.raises(ValueError, match="layers: expected names of layers of the model, got 'third'; there are"):
        from_keras(model, ["third"], input_size=(16, 16))
    soft = keras.Model(model.inputs, keras.layers.Dense(3, activation="softmax", name="soft")(model.outputs[0]))
    with pytest.raises(ValueError, match=r"model: expected one that ends in logits, got a softmax .* 'soft'"):
        from_keras(soft, LAYERS, input_size=(16, 16))
    conv = keras.layers.Conv2D(3, 3, padding="same", name="twice")
    twice = keras.Model(model.inputs, keras.layers.GlobalAveragePooling2D()(conv(conv(model.inputs[0]))))
    with pytest.raises(ValueError, match="layers: expected layers that the model calls once, got 'twice'"):
        from_keras(twice, ["twice"], input_size=(16, 16))
    two = keras.Model(model.inputs, [model.outputs[0], model.outputs[0]])
    with pytest.raises(ValueError, match="model: expected one input and one output, got 1 and 2"):
        from_keras(two, LAYERS, input_size=(16, 16))
    with pytest.raises(ValueError, match="model: expected a functional or sequential Keras model that is built"):
        from_keras(keras.Sequential([keras.layers.Dense(3)]), ["dense"], input_size=(16, 16))
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(ValueError, match="model: expected Keras to run on JAX, got the backend 'tensorflow'; set"):
        from_keras(model, LAYERS, input_size=(16, 16))
