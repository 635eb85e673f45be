"""A network of three convolutions with batch norm, one of them depthwise, in the registry under the name "tiny"."""

import functools
from collections import OrderedDict

from flax import nnx

from mlfem_jax.backbones.architecture import Architecture
from mlfem_jax.backbones.hooks import PLAIN, no_tap
from mlfem_jax.backbones.networks import resnet
from mlfem_jax.backbones.networks.layers import Conv, Linear, mean_pool
from mlfem_jax.backbones.preprocess import imagenet_preprocess

SIZE = (16, 16)
SHAPES = {
    **{"conv1.weight": (8, 3, 3, 3), "conv2.weight": (8, 1, 3, 3), "conv3.weight": (16, 8, 1, 1)},
    **{
        f"bn{i}.{entry}": (8 * (1 + i // 3),)
        for i in (1, 2, 3)
        for entry in ("weight", "bias", "running_mean", "running_var")
    },
    **{"fc.weight": (4, 16), "fc.bias": (4,)},
}


class Tiny(nnx.Module):
    """3x3, depthwise 3x3 and 1x1 convolutions, each with batch norm and ReLU; the layers are their outputs."""

    def __init__(self, *, classes, rngs, norm=None):
        self.conv1 = Conv(3, 8, 3, stride=2, norm=norm, rngs=rngs)
        self.conv2 = Conv(8, 8, 3, stride=2, groups=8, norm=norm, rngs=rngs)
        self.conv3 = Conv(8, 16, 1, norm=norm, rngs=rngs)
        self.fc = Linear(16, classes, rngs=rngs)

    def __call__(self, inputs, *, tap=no_tap, rules=PLAIN):
        features, activations = inputs, OrderedDict()
        for name in ("conv1", "conv2", "conv3"):
            features = rules.relu(getattr(self, name)(features, rules.conv))
            features = activations[name] = tap(name, features)
        return self.fc(rules.average(mean_pool, features), rules.dense), activations


TINY = Architecture(
    build=functools.partial(Tiny),
    torch_names=resnet.torch_names,
    preprocess=imagenet_preprocess,
    classifier="fc",
    head="fc",
    summary="three convolutions",
    input_size=SIZE,
)
