"""Guided Grad-CAM: the fine lines of guided backpropagation, where Grad-CAM looks."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry
from mlfem_jax.attribution.cam import grad_cam, gradient_cam_maps, gradient_layers
from mlfem_jax.attribution.gradient import largest, modified_gradient
from mlfem_jax.backbones import Forward
from mlfem_jax.upsampling import upsample


def guided_grad_cam(
    forward: Forward, *, layers: tuple[str, ...] | None = None, score: str = "logit"
) -> Float[Array, " N *S C"]:
    """The positive part of Grad-CAM, upsampled, times guided backpropagation.

    Args:
        forward: the batch.
        layers: the one layer of Grad-CAM; None as for `gradient_cam_maps`.
        score: see `target.class_score`.

    Raises:
        ValueError: several layers, or a backbone without `tap` or `rules`.

    Source:
        Selvaraju et al., Grad-CAM (2017), section 3.2.
    """
    layers = layers or gradient_layers(forward)
    coarse = gradient_cam_maps(forward, formula=grad_cam, layers=layers, score=score, raw=True)
    resized = functools.partial(upsample, shape=forward.size, grid=forward.backbone.grid(layers[0]))
    where = jax.vmap(lambda importance: resized(jnp.maximum(importance, 0.0)))(coarse)
    return modified_gradient(forward, rule="guided", score=score) * where[..., None]


def guided_grad_cam_maps(
    forward: Forward,
    *,
    layers: tuple[str, ...] | None = None,
    score: str = "logit",
    sign: str = "absolute",
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """`guided_grad_cam`, the largest over the colors. The paper shows it as a signed picture in color."""
    return largest(forward, guided_grad_cam(forward, layers=layers, score=score), sign, raw)


METHODS = {
    "guided_grad_cam": Entry(
        guided_grad_cam_maps, "gradient", "Guided Grad-CAM: guided backpropagation where Grad-CAM is", of_class=True
    ),
}
