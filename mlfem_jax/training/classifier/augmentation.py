"""Random changes of a training photograph, on the device: pure functions of one image and a random key.

Photographs are float32 in [0, 1], (height, width, channel).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Photo = Float[Array, "H W 3"]
Crop = Float[Array, "h w 3"]
_RATIOS = (3 / 4, 4 / 3)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may happen to a photograph.

    Attributes:
        area: smallest share of the photograph's area that a crop keeps; 1 keeps all of it.
        flips: mirror half of the photographs left to right.
        color: by how much brightness, contrast and saturation are each multiplied: from 1 - color to 1 + color.
    """

    area: float = 0.35
    flips: bool = True
    color: float = 0.2

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: names the field.
        """
        if not 0 < self.area <= 1 or not 0 <= self.color < 1:
            raise ValueError(f"area and color: expected shares in (0, 1] and [0, 1), got {self.area} and {self.color}")


NO_AUGMENTATION = Augmentation(area=1.0, flips=False, color=0.0)


def augment(key: Key[Array, ""], photo: Photo, shape: tuple[int, int], augmentation: Augmentation) -> Crop:
    """The photograph cropped and resized to `shape`, mirrored or not, its colors changed.

    Example:
        >>> augment(jax.random.key(0), jnp.zeros((8, 8, 3)), (4, 4), Augmentation()).shape
        (4, 4, 3)
    """
    for_crop, for_flip, for_color = jax.random.split(key, 3)
    crop = random_crop(for_crop, photo, shape, area=augmentation.area)
    if augmentation.flips:
        crop = random_flip(for_flip, crop)
    return random_color(for_color, crop, strength=augmentation.color) if augmentation.color else crop


def random_crop(key: Key[Array, ""], photo: Photo, shape: tuple[int, int], *, area: float) -> Crop:
    """A random part of the photograph, resized to `shape` (bilinear, antialiased).

    Args:
        key: random.
        photo: to crop.
        shape: (height, width) in pixels of the result.
        area: smallest share of the photograph's area; with 1 the whole photograph is resized.

    Returns:
        (height, width, 3).

    Source:
        Szegedy et al. 2015, arXiv:1409.4842: share of the area and log of the ratio of the sides (3/4 to 4/3 of the
        photograph's own) are uniform. A side that is too long is cut, where torchvision draws again.
    """
    whole = jnp.array(photo.shape[:2], jnp.float32)
    for_area, for_ratio, for_place = jax.random.split(key, 3)
    share = jax.random.uniform(for_area, (), jnp.float32, minval=area, maxval=1.0)
    low, high = (math.log(ratio) for ratio in _RATIOS)
    ratio = jnp.exp(jax.random.uniform(for_ratio, (), jnp.float32, minval=low, maxval=high))
    stretch = jnp.sqrt(jnp.stack([1 / ratio, ratio])) if area < 1 else jnp.ones(2, jnp.float32)
    side = jnp.minimum(jnp.sqrt(share) * stretch, 1.0) * whole
    start = jax.random.uniform(for_place, (2,), jnp.float32) * (whole - side)
    scale = jnp.array(shape, jnp.float32) / side
    return jax.image.scale_and_translate(photo, (*shape, 3), (0, 1), scale, -start * scale, "linear", antialias=True)


def random_flip(key: Key[Array, ""], photo: Photo) -> Photo:
    """The photograph or its mirror image."""
    return jnp.where(jax.random.bernoulli(key, jnp.float32(0.5)), photo[:, ::-1], photo)


def random_color(key: Key[Array, ""], photo: Photo, *, strength: float) -> Photo:
    """Brightness, contrast (around the mean gray) and saturation (around each pixel's gray), multiplied in that order.

    Args:
        key: random.
        photo: to change.
        strength: each factor is uniform from 1 - strength to 1 + strength.

    Returns:
        The photograph, clipped to [0, 1].
    """
    low, high = 1 - strength, 1 + strength
    brightness, contrast, saturation = jax.random.uniform(key, (3,), jnp.float32, minval=low, maxval=high)
    photo = photo * brightness
    mean = _gray(photo).mean()
    photo = (photo - mean) * contrast + mean
    gray = _gray(photo)
    return jnp.clip((photo - gray) * saturation + gray, 0.0, 1.0)


def _gray(photo: Photo) -> Float[Array, "H W 1"]:
    """Luma of ITU-R BT.601."""
    return (photo * jnp.array([0.299, 0.587, 0.114], jnp.float32)[None, None]).sum(axis=2, keepdims=True)
