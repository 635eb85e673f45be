"""From photographs to the numbers that a network was trained on."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def unit_pixels(images: Array | np.ndarray) -> Float[Array, "*N H W 3"]:
    """Images, or one, as float32 in [0, 1]: uint8 over 255; floats are taken to be there already."""
    return unit_numbers(images)


def as_they_are(examples: Array | np.ndarray) -> Float[Array, "N ... C"]:
    """Data other than photographs: its numbers, of any range, as float32."""
    return jnp.asarray(examples).astype(jnp.float32)


def unit_numbers(examples: Array | np.ndarray) -> Float[Array, "N ... C"]:
    """Recordings as float32: uint8, as film is, over 255; other numbers as they are."""
    examples = jnp.asarray(examples)
    return examples.astype(jnp.float32) / 255 if examples.dtype == jnp.uint8 else examples.astype(jnp.float32)


def _standardized(
    images: Array | np.ndarray, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Float[Array, "N H W 3"]:
    shape = (1, 1, 1, 3)
    means, deviations = (jnp.array(values, jnp.float32).reshape(shape) for values in (mean, deviation))
    return (unit_pixels(images) - means) / deviations


def imagenet_preprocess(images: Array | np.ndarray) -> Float[Array, "N H W 3"]:
    """Standardized with the mean and standard deviation of ImageNet's pixels, as torchvision's weights expect."""
    return _standardized(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def clip_preprocess(images: Array | np.ndarray) -> Float[Array, "N H W 3"]:
    """Standardized with the mean and standard deviation of the pixels that CLIP was trained on."""
    return _standardized(images, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def half_preprocess(images: Array | np.ndarray) -> Float[Array, "N H W 3"]:
    """From -1 for black to 1 for white, as the first vision transformers and SigLIP were trained."""
    return _standardized(images, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def efficientnet_lite_preprocess(images: Array | np.ndarray) -> Float[Array, "N H W 3"]:
    """(pixel - 127) / 128 of pixels in 0..255, as EfficientNet-Lite was trained."""
    return (unit_pixels(images) * 255 - 127) / 128


def keras_preprocess(images: Array | np.ndarray) -> Float[Array, "N H W 3"]:
    """Blue, green, red in 0..255 less ImageNet's mean pixel, as the first networks of `keras.applications` expect."""
    mean = jnp.array([103.939, 116.779, 123.68], jnp.float32)
    return unit_pixels(images)[..., ::-1] * 255 - mean[None, None, None]
