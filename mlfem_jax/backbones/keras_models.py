"""Keras 3 models on their JAX backend as backbones: the outputs of layers, named as Keras names them."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Array

from mlfem_jax.backbones.adapters import from_function
from mlfem_jax.backbones.base import Backbone
from mlfem_jax.backbones.hooks import no_tap

if TYPE_CHECKING:
    import keras


def from_keras(
    model: "keras.Model",
    layers: Sequence[str],
    *,
    input_size: tuple[int, int] | None = None,
    input_shape: tuple[int, ...] | None = None,
    name: str | None = None,
    **options: Any,
) -> Backbone:
    """A backbone from a functional or sequential Keras 3 model that maps (N, H, W, 3), or other data, to logits.

    Keras has to run on JAX: set the environment variable KERAS_BACKEND to "jax" before it is imported.

    Args:
        model: the network, built, with its weights; it ends in logits: `classifier_activation=None` in
            `keras.applications`. It is not changed.
        layers: names of the layers whose outputs FEM sees, in order, such as "conv2_block1_out"; of models inside the
            model, the model's own output. A layer that is called more than once has no one output.
        input_size: see `from_function`; of a model that takes any size, that of its training.
        input_shape: see `from_function`: in place of `input_size`, for data other than photographs.
        name: for people. Default: the model's.
        **options: see `from_function`; `preprocess` gets images in uint8 or in [0, 1], where most of
            `keras.applications` expect 0 to 255.

    Returns:
        The backbone, with a gradient at every layer; dropout and batch norm are in inference.

    Raises:
        ValueError: Keras runs on another backend; the model is subclassed, or ends in a softmax or sigmoid; a layer
            that does not exist, naming those that do, or is called more than once; as `from_function`.

    Example:
        >>> import keras
        >>> layers = [keras.layers.Conv2D(4, 3, activation="relu", name="conv"), keras.layers.GlobalAveragePooling2D()]
        >>> model = keras.Sequential([keras.layers.Input((8, 8, 3)), *layers])
        >>> from_keras(model, ["conv"], input_size=(8, 8)).layers
        ('conv',)
    """
    import keras

    if keras.backend.backend() != "jax":
        raise ValueError(
            f"model: expected Keras to run on JAX, got the backend {keras.backend.backend()!r}; set KERAS_BACKEND=jax "
            "before keras is imported, and load the model again"
        )
    _check_model(model, layers)
    graph, listeners = _listened(model, tuple(layers))

    def apply(params, inputs, *, tap=no_tap):
        heard: dict[str, Array] = {}

        def hear(name: str, activation: Array) -> Array:
            heard[name] = tap(name, activation)
            return heard[name]

        for listener in listeners:
            listener.hear = hear
        try:
            logits, _ = graph.stateless_call(params["trainable"], params["fixed"], inputs, training=False)
        finally:
            for listener in listeners:
                listener.hear = no_tap  # a traced value must not outlive its trace
        return logits, OrderedDict((name, heard[name]) for name in layers)

    params = {
        "trainable": [variable.value for variable in graph.trainable_variables],
        "fixed": [variable.value for variable in graph.non_trainable_variables],
    }
    return from_function(
        apply, params, input_size=input_size, input_shape=input_shape, name=name or model.name, **options
    )


def _listened(model: Any, layers: tuple[str, ...]) -> tuple[Any, list[Any]]:
    """The same layers as another graph, where a listener stands behind each of those named."""
    import keras

    class Listener(keras.layers.Layer):
        """Gives what passes through it to `hear`, and goes on with what that returns."""

        heard, hear = "", staticmethod(no_tap)

        def call(self, inputs: Any) -> Any:
            return self.hear(self.heard, inputs)

    listeners: list[Any] = []

    def call(layer: Any, *arguments: Any, **keywords: Any) -> Any:
        outputs = layer(*arguments, **keywords)
        if layer.name not in layers:
            return outputs
        if layer.name in [listener.heard for listener in listeners]:
            raise ValueError(f"layers: expected layers that the model calls once, got {layer.name!r}")
        listener = Listener(name=f"{layer.name}_heard")
        listener.heard = layer.name
        listeners.append(listener)
        return listener(outputs)

    functional = keras.Model(model.inputs, model.outputs)  # of a sequential one too
    return keras.models.clone_model(functional, clone_function=lambda layer: layer, call_function=call), listeners


def _check_model(model: Any, layers: Sequence[str]) -> None:
    import keras

    if not getattr(model, "inputs", None) or not getattr(model, "layers", None):
        raise ValueError(
            f"model: expected a functional or sequential Keras model that is built, got {type(model).__name__}; one "
            "that is written as a class goes to from_function, with its stateless_call"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"model: expected one input and one output, got {len(model.inputs)} and {len(model.outputs)}; "
            "keras.Model(inputs, outputs) makes one of the outputs that you want"
        )
    last = model.layers[-1]
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Softmax) or activation in (keras.activations.softmax, keras.activations.sigmoid):
        raise ValueError(
            f"model: expected one that ends in logits, got a {getattr(activation, '__name__', 'softmax')} in its last "
            f"layer, {last.name!r}; keras.applications take classifier_activation=None, another model "
            "model.layers[-1].activation = None"
        )
    there = [layer.name for layer in model.layers]
    if missing := [name for name in layers if name not in there]:
        raise ValueError(
            f"layers: expected names of layers of the model, got {missing[0]!r}; there are {', '.join(there)}"
        )
