from .adapters import from_function as from_function
from .architectures import ARCHITECTURES as ARCHITECTURES
from .attentions import (
    attention_grids as attention_grids,
    attention_names as attention_names,
    class_row as class_row,
    layer_attentions as layer_attentions,
    read_layers as read_layers,
)
from .base import Activations as Activations, Backbone as Backbone, Output as Output
from .equinox_modules import from_equinox as from_equinox
from .files.fit import check_values as check_values, check_weights as check_weights
from .files.read import read_weights as read_weights, save_weights as save_weights
from .flax_modules import from_linen as from_linen, from_nnx as from_nnx
from .forward import (
    Forward as Forward,
    Layers as Layers,
    forward_pass as forward_pass,
    select_layers as select_layers,
)
from .haiku_modules import from_haiku as from_haiku
from .hooks import Affine as Affine, Rules as Rules, Tap as Tap
from .keras_models import from_keras as from_keras
from .preprocess import (
    as_they_are as as_they_are,
    clip_preprocess as clip_preprocess,
    efficientnet_lite_preprocess as efficientnet_lite_preprocess,
    half_preprocess as half_preprocess,
    imagenet_preprocess as imagenet_preprocess,
    keras_preprocess as keras_preprocess,
    unit_pixels as unit_pixels,
)
from .recorders import RECORDED as RECORDED, samples_per_s_of as samples_per_s_of
from .registry import backbone_names as backbone_names, load_backbone as load_backbone
from .small_networks import SMALL as SMALL, SUMMARY as SUMMARY
from .target import Contrast as Contrast, LogitFunction as LogitFunction
from .towers import TOWERS as TOWERS
from .trainable import (
    Classifier as Classifier,
    initial_weights as initial_weights,
    make_classifier as make_classifier,
    save_classifier as save_classifier,
)
