"""Whether a map shows what the network used: a map can please people and be unfaithful to the network.

Every function takes ONE image (H, W, 3) at the size of the network's input, uint8 or float in [0, 1], and is compiled;
of other data one example (*S, C), or (*S) of a single channel, as the network's `preprocess` takes it, with a map (*S);
batch it with `jax.vmap` over the images, and over the maps. The forward runs in the dtype of the backbone's parameters
(`backbone.astype(jnp.bfloat16)`), scores are float32. What is undefined is NaN, and the caller counts it: a constant
map, which puts no pixel before another, and one that holds NaN or infinity.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
