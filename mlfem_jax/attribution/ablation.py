"""Ablation-CAM: the channels of a layer, weighted by what the class score loses without them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, along, finish_layers
from mlfem_jax.attribution.cam import gradient_layers
from mlfem_jax.attribution.target import class_score, moves
from mlfem_jax.backbones import Forward, LogitFunction
from mlfem_jax.fusion import ALPHA
from mlfem_jax.parallel import chunk_size, map_chunks


def ablation_cam(activation: Float[Array, "*S C"], losses: Float[Array, " C"]) -> Float[Array, "*S"]:
    """Sum over channels of A times what the score loses without the channel.

    Source:
        Desai and Ramaswamy, Ablation-CAM (2020), equations 3 and 4, which divide the loss by the score: a factor that
        min-max takes out, and that turns the map around where the score is negative.
    """
    return activation @ losses


def channel_losses(
    forward: Forward, layer: str, *, score: str = "logit", internal_batch_size: int = 64
) -> Float[Array, "N C"]:
    """How much the class score of each image falls when one channel of the layer is 0.

    The network goes on from the layer's activation, which the forward pass has: of a layer that all paths lead
    through, nothing before it is computed again.

    Args:
        forward: the batch.
        layer: name.
        score: see `target.class_score`.
        internal_batch_size: most images in one of the passes (at least the batch).

    Returns:
        (N, C) float32; zeros where no channel moves the score by more than rounding.

    Raises:
        ValueError: a backbone whose `apply` takes no `tap`.
    """
    activation = forward.activations[layer]
    channels = jnp.arange(activation.shape[-1], dtype=jnp.int32)

    def score_without(channel):
        left = jnp.where(along(channels == channel, -1, activation.ndim), jnp.zeros_like(activation), activation)
        logits = forward.run(forward.inputs, tap=lambda name, value: left if name == layer else value)
        return class_score(logits, forward.classes, score, forward.backbone.output)

    chunk = chunk_size(len(forward.inputs), internal_batch_size, forward.platform)
    scores = map_chunks(score_without, jnp.concatenate([jnp.array([-1], jnp.int32), channels]), chunk)
    unit = "logit" if isinstance(forward.classes, LogitFunction) else score
    moving = moves(scores, forward.logits, unit)
    return jnp.where(moving[:, None], (scores[:1] - scores[1:]).T, 0.0)


def ablation_cam_maps(
    forward: Forward,
    *,
    layers: tuple[str, ...] | None = None,
    fuse: str = "add",
    alpha: float = ALPHA,
    normalize: str = "end",
    score: str = "logit",
    sign: str = "positive",
    internal_batch_size: int = 64,
    raw: bool = False,
) -> Float[Array, "N ..."]:
    """`ablation_cam` of each image; the paper shows the positive part.

    Args:
        forward: the batch.
        layers: as for `gradient_cam_maps`, and so are `fuse`, `alpha` and `normalize`.
        fuse: see there.
        alpha: see there.
        normalize: see there.
        score: the paper takes the logit.
        sign: which part of the raw map is shown.
        internal_batch_size: see `channel_losses`.
        raw: the weighted sum of the channels, at the size of the one layer.
    """
    values = {}
    for layer in layers or gradient_layers(forward):
        losses = channel_losses(forward, layer, score=score, internal_batch_size=internal_batch_size)
        values[layer] = jax.vmap(ablation_cam)(forward.activations[layer].astype(jnp.float32), losses)
    return finish_layers(forward, values, sign=sign, fuse=fuse, alpha=alpha, normalize=normalize, raw=raw)


METHODS = {
    "ablation_cam": Entry(
        ablation_cam_maps, "forwards", "Ablation-CAM: channels weighted by what the score loses", of_class=True
    ),
}
