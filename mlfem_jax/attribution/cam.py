"""Class activation maps: the channels of a layer, weighted by what they do for the class.

A is an activation (h, w, C), or (*s, C) of other data, and G the gradient of the class score with respect to it. Every
method lives on a layer, by default the last one whose gradient means something; given several layers it makes a map of
each and fuses them as MLFEM does (`fusion.fuse`).
"""

import functools
from collections import OrderedDict
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, finish_layers
from mlfem_jax.attribution.target import class_score
from mlfem_jax.backbones import Forward
from mlfem_jax.fusion import ALPHA
from mlfem_jax.importance import normalize as min_max
from mlfem_jax.parallel import chunk_size, map_chunks
from mlfem_jax.upsampling import upsample

Activation = Float[Array, "*s C"]
RawMap = Float[Array, "*s"]
Formula = Callable[[Activation, Activation], RawMap]
_TINY = 1e-7
# The default precision of accelerators (TF32, bfloat16) is wrong in the third digit, which a Gram matrix squares.
_exact = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def gradient_layers(forward: Forward) -> tuple[str, ...]:
    """The one layer that Grad-CAM and its kin see where none is named: the last whose gradient means something."""
    return (forward.backbone.gradient_layer or tuple(forward.activations)[-1],)


def layer_gradients(
    forward: Forward, layers: tuple[str, ...], *, score: str = "logit"
) -> OrderedDict[str, Float[Array, "N ... _C"]]:
    """The gradient of the class score with respect to the activation of each layer, by one backward pass for all.

    Args:
        forward: the batch.
        layers: names, in the network's order.
        score: see `target.class_score`.

    Raises:
        ValueError: a layer that does not exist, or a backbone whose `apply` takes no `tap`; it says what is possible.
    """
    unknown = [layer for layer in layers if layer not in forward.activations]
    if unknown:
        raise ValueError(f"layers: expected some of {', '.join(forward.activations)}, got {unknown[0]!r}")

    def total(offsets):
        def tap(name, activation):
            return activation + offsets[name] if name in offsets else activation

        return class_score(forward.run(forward.inputs, tap=tap), forward.classes, score, forward.backbone.output).sum()

    return jax.grad(total)(OrderedDict((layer, jnp.zeros_like(forward.activations[layer])) for layer in layers))


def _space(activation: Activation) -> tuple[int, ...]:
    """The spatial axes."""
    return tuple(range(activation.ndim - 1))


def grad_cam(activation: Activation, gradient: Activation) -> RawMap:
    """Sum over channels of A times the mean of G. Source: Selvaraju et al., Grad-CAM (2017), equations 1 and 2."""
    return activation @ gradient.mean(axis=_space(gradient))


def grad_cam_pp(activation: Activation, gradient: Activation) -> RawMap:
    """Sum over channels of w A, with w the sum of alpha max(G, 0).

    alpha = G^2 / (2 G^2 + G^3 sum(A)): the derivatives are those of exp(score), whose common factor drops out.

    Source: Chattopadhay et al., Grad-CAM++ (2018), equations 5 and 19.
    """
    # alpha does not change when G is scaled by s and A by 1 / s; with the largest G at 1, no power of it underflows.
    scale = jnp.abs(gradient).max()
    unit = gradient / jnp.where(scale > 0, scale, 1.0)
    above = activation.sum(axis=_space(activation), keepdims=True) * scale
    below = 2 * unit**2 + above * unit**3
    alpha = jnp.where(below != 0, unit**2 / jnp.where(below != 0, below, 1.0), 0.0)
    return activation @ (alpha * jnp.maximum(gradient, 0.0)).sum(axis=_space(gradient))


def layer_cam(activation: Activation, gradient: Activation) -> RawMap:
    """Sum over channels of A max(G, 0). Source: Jiang et al., LayerCAM (2021), equations 5 and 6."""
    return (activation * jnp.maximum(gradient, 0.0)).sum(axis=-1)


def hires_cam(activation: Activation, gradient: Activation) -> RawMap:
    """Sum over channels of A G. Source: Draelos and Carin, HiResCAM (2020), equation 4."""
    return (activation * gradient).sum(axis=-1)


def xgrad_cam(activation: Activation, gradient: Activation) -> RawMap:
    """Sum over channels of w A, with w = sum(A G) / sum(A). Source: Fu et al., XGrad-CAM (2020), equation 7.

    A channel that sums to zero has no weight.
    """
    total = activation.sum(axis=_space(activation))
    weight = (activation * gradient).sum(axis=_space(activation)) / jnp.where(jnp.abs(total) > _TINY, total, jnp.inf)
    return activation @ weight


def eigen_cam(activation: Activation, *, center: bool = False) -> RawMap:
    """A projected on its first right singular vector, of the sign that makes the map's sum positive.

    Args:
        activation: (*s, C).
        center: take each channel's mean off first: the first principal component, as the package grad-cam has it. Its
            sum is 0; the sign is that of its covariance with the sum over channels of A.

    Source: Muhammad and Yeasin, Eigen-CAM (2020), equations 4 and 5; as there, A is not centered by default.
    """
    *space, channels = activation.shape
    matrix = activation.reshape(-1, channels)
    total = matrix.sum(axis=1)
    matrix = matrix - matrix.mean(axis=0, keepdims=True) if center else matrix
    if len(matrix) <= channels:
        left = jnp.linalg.eigh(_exact(matrix, matrix.T))[1][:, -1]
        importance = left * jnp.linalg.norm(_exact(matrix.T, left))
    else:
        importance = _exact(matrix, jnp.linalg.eigh(_exact(matrix.T, matrix))[1][:, -1])
    side = (importance * total).sum() if center else importance.sum()
    return (importance * jnp.where(side < 0, -1.0, 1.0)).reshape(space)


def gradient_cam_maps(
    forward: Forward,
    *,
    formula: Formula,
    layers: tuple[str, ...] | None = None,
    fuse: str = "add",
    alpha: float = ALPHA,
    normalize: str = "end",
    score: str = "logit",
    sign: str = "positive",
    raw: bool = False,
) -> Float[Array, "N ..."]:
    """Maps by a formula of activation and gradient; the papers show the positive part.

    Args:
        forward: the batch.
        formula: (A, G) to a raw map of one image.
        layers: names; None is the last one whose gradient means something (`Backbone.gradient_layer`).
        fuse: operator that fuses the maps of several layers.
        alpha: see `fusion.fuse`.
        normalize: see `fusion.fuse`.
        score: what is differentiated; the papers take the logit.
        sign: which part of the raw map is shown.
        raw: the formula's values, signed, at the size of the one layer.
    """
    gradients = layer_gradients(forward, layers or gradient_layers(forward), score=score)
    values = {
        layer: jax.vmap(formula)(forward.activations[layer].astype(jnp.float32), gradient.astype(jnp.float32))
        for layer, gradient in gradients.items()
    }
    return finish_layers(forward, values, sign=sign, fuse=fuse, alpha=alpha, normalize=normalize, raw=raw)


def eigen_cam_maps(
    forward: Forward,
    *,
    layers: tuple[str, ...] | None = None,
    fuse: str = "add",
    alpha: float = ALPHA,
    normalize: str = "end",
    center: bool = False,
    raw: bool = False,
) -> Float[Array, "N ..."]:
    """`eigen_cam` of each image; it looks at no class. Arguments as for `gradient_cam_maps`."""
    layers = layers or tuple(forward.activations)[-1:]
    formula = functools.partial(eigen_cam, center=center)
    values = {layer: jax.vmap(formula)(forward.activations[layer].astype(jnp.float32)) for layer in layers}
    return finish_layers(forward, values, sign="signed", fuse=fuse, alpha=alpha, normalize=normalize, raw=raw)


def score_cam_maps(
    forward: Forward,
    *,
    layers: tuple[str, ...] | None = None,
    fuse: str = "add",
    alpha: float = ALPHA,
    normalize: str = "end",
    score: str = "logit",
    internal_batch_size: int = 64,
    raw: bool = False,
) -> Float[Array, "N ..."]:
    """Channels weighted by the class score of the image seen through them: one forward for each channel.

    A channel, upsampled and min-maxed, multiplies the preprocessed image; the softmax over channels of the scores
    weighs the channels. The positive part of the sum is shown. The score of the paper's blank reference image is the
    same for all channels, so that it drops out of the softmax.

    Args:
        forward: the batch.
        layers: as for `gradient_cam_maps`, and so are `fuse`, `alpha` and `normalize`.
        fuse: see there.
        alpha: see there.
        normalize: see there.
        score: the paper takes the logit.
        internal_batch_size: most images in one of the forward passes (at least the batch).
        raw: the weighted sum of the channels, at the size of the one layer.

    Source:
        Wang et al., Score-CAM (2020), algorithm 1.
    """
    size, chunk = forward.size, chunk_size(len(forward.inputs), internal_batch_size, forward.platform)

    def weighted(activation, grid):
        def channel_score(channel):
            resized = functools.partial(upsample, shape=size, grid=grid)
            masks = jax.vmap(lambda importance: min_max(resized(importance)))(channel.astype(jnp.float32))
            masked = forward.inputs * masks[..., None].astype(forward.inputs.dtype)
            return class_score(forward.run(masked), forward.classes, score, forward.backbone.output)

        scores = map_chunks(channel_score, jnp.moveaxis(activation, -1, 0), chunk)
        weights = jax.nn.softmax(scores, axis=0)
        return jnp.einsum("n...c,cn->n...", activation.astype(jnp.float32), weights)

    layers = layers or tuple(forward.activations)[-1:]
    values = {layer: weighted(forward.activations[layer], forward.backbone.grid(layer)) for layer in layers}
    return finish_layers(forward, values, sign="positive", fuse=fuse, alpha=alpha, normalize=normalize, raw=raw)


def _gradient_cam(formula: Formula, summary: str) -> Entry:
    return Entry(functools.partial(gradient_cam_maps, formula=formula), "gradient", summary, of_class=True)


METHODS = {
    "grad_cam": _gradient_cam(grad_cam, "Grad-CAM: channels weighted by their mean gradient"),
    "grad_cam_pp": _gradient_cam(grad_cam_pp, "Grad-CAM++: channels weighted by their positive gradients"),
    "layer_cam": _gradient_cam(layer_cam, "LayerCAM: activation times positive gradient"),
    "hires_cam": _gradient_cam(hires_cam, "HiResCAM: activation times gradient"),
    "xgrad_cam": _gradient_cam(xgrad_cam, "XGrad-CAM: channels weighted by their share of activation times gradient"),
    "eigen_cam": Entry(eigen_cam_maps, "activations", "Eigen-CAM: the first principal component of the activation"),
    "score_cam": Entry(
        score_cam_maps, "forwards", "Score-CAM: channels weighted by the score they leave", of_class=True
    ),
}
