"""Tiny networks whose activations are known."""

import jax.numpy as jnp
import numpy as np

import mlfem_jax as mlfem


def identity_preprocess(images):
    return images.astype(jnp.float32)


def brightness_network(size=(8, 8), traces=None, seen=None):
    """Layer "fine" is the image itself, "coarse" its 2 x 2 means; the logits are the mean colors.

    `traces` counts how often JAX traced it, `seen` the shapes of its inputs.
    """

    def apply(params, inputs):
        if traces is not None:
            traces.append(inputs.shape)
        count, height, width, channels = inputs.shape
        means = inputs.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
        return inputs.mean(axis=(1, 2)), {"fine": inputs * params, "coarse": means * params}

    return mlfem.from_function(apply, jnp.float32(1), input_size=size, preprocess=identity_preprocess)


def photographs(count, size=(8, 8), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)
