"""The vision transformer: ViT, DeiT, DINOv2 and v3, and the image towers of CLIP and SigLIP are one function.

An image is cut into patches; each becomes a token, and tokens of the network's own (the class token, registers) stand
before them. A block adds to every token what it reads of all others (attention) and what a small network makes of it.
What FEM sees is the output of each block, its patch tokens laid out as they lie in the image.

Source: Dosovitskiy et al., An Image is Worth 16x16 Words (2021), equations 1 to 4; Touvron et al., Going deeper with
Image Transformers (2021), equation 5 (LayerScale); Darcet et al., Vision Transformers Need Registers (2024); Shazeer,
GLU Variants Improve Transformer (2020), equation 6 (SwiGLU).
"""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.backbones.base import Activations
from mlfem_jax.backbones.hooks import PLAIN, Rules, Tap, no_tap
from mlfem_jax.backbones.networks.parts import GELUS, scale_channels
from mlfem_jax.backbones.networks.positions import resized_positions
from mlfem_jax.backbones.networks.rotary import rotation, same

Params = Mapping[str, Any]
Tokens = Float[Array, "N T C"]
OfArray = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class ViT:
    """All that distinguishes one vision transformer from another, beside its parameters.

    Attributes:
        patch: side of a patch in pixels.
        width: channels of a token.
        depth: number of blocks.
        heads: of each block.
        hidden: width inside a block's MLP; of each of the two factors of a gated one.
        size: side in pixels of the images whose patches have a position embedding each.
        prefix: names of the tokens before the patches': "cls", "dist" (DeiT's second class token), "registers".
        registers: how many registers there are.
        pool: what the head reads: the class token; the mean of the patches; both, one behind the other; an attention of
            one learned query over all tokens ("map"); or the mean of two heads on the two class tokens ("distilled").
        norm: whether the last layer norm comes before the pool or behind it.
        gelu: "exact", "tanh" or "quick" (x sigmoid(1.702 x)).
        gated: the MLP is silu(a) b of two linear maps a, b (SwiGLU).
        scaled: each block's two additions are scaled channel by channel (LayerScale).
        pre_norm: a layer norm in front of the first block.
        epsilon: of the layer norms.
        antialias: how position embeddings are interpolated where they are made smaller, see `resized_positions`.
        rotary: base of the periods of rotary position embeddings, see `rotation`; None: positions are learned.
    """

    patch: int
    width: int
    depth: int
    heads: int
    hidden: int
    size: int = 224
    prefix: tuple[str, ...] = ("cls",)
    registers: int = 0
    pool: Literal["cls", "mean", "cls_mean", "map", "distilled"] = "cls"
    norm: Literal["before", "behind"] = "before"
    gelu: str = "exact"
    gated: bool = False
    scaled: bool = False
    pre_norm: bool = False
    epsilon: float = 1e-6
    antialias: bool = False
    rotary: float | None = None

    @property
    def grid(self) -> int:
        """Patches along a side of the images that it was trained on."""
        return self.size // self.patch

    @property
    def prefix_length(self) -> int:
        """How many tokens stand before those of the patches."""
        return sum(self.registers if name == "registers" else 1 for name in self.prefix)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the blocks."""
        return tuple(f"blocks.{index}" for index in range(self.depth))

    @property
    def attentions(self) -> tuple[str, ...]:
        """Names of the attention softmaxes, as `tap` hears them."""
        return tuple(f"{layer}.attention" for layer in self.layers)


def forward(
    config: ViT,
    params: Params,
    inputs: Float[Array, "N H W 3"],
    *,
    tap: Tap = no_tap,
    rules: Rules = PLAIN,
    depth: int | None = None,
) -> tuple[Float[Array, "N D"], Activations]:
    """The outputs of the head, and the patch tokens behind every block.

    Args:
        config: the network.
        params: nested dicts of arrays, see `networks.vit_names.to_params`.
        inputs: (N, H, W, 3) preprocessed images of any size of at least one patch; what no whole patch covers at the
            right and at the bottom is not seen.
        tap: hears each block's patch tokens (N, h, w, width) and its softmaxes (N, heads, T, T), which are nothing
            but passed on without it.
        rules: how its parts compute.
        depth: after how many blocks the head reads the tokens; None is all.

    Returns:
        Logits (N, classes), or the embedding (N, D) where there is no head; and the activations by block, each
        (N, h, w, width), without the tokens before the patches.
    """
    tokens, grid = _embed(config, params, inputs, rules)
    turn = rotation(grid, prefix=config.prefix_length, width=config.width // config.heads, base=config.rotary)
    activations: Activations = OrderedDict()
    for layer, block in list(zip(config.layers, params["blocks"], strict=True))[:depth]:
        tokens = _block(config, block, tokens, functools.partial(tap, f"{layer}.attention"), turn, rules)
        patches = tap(layer, tokens[:, config.prefix_length :].reshape(len(tokens), *grid, config.width))
        activations[layer] = patches
        if tap is not no_tap:
            flat = patches.reshape(len(tokens), -1, config.width)
            tokens = jnp.concatenate([tokens[:, : config.prefix_length], flat], axis=1)
    return _head(config, params, tokens, rules), activations


def _embed(
    config: ViT, params: Params, inputs: Float[Array, "N H W 3"], rules: Rules
) -> tuple[Tokens, tuple[int, int]]:
    """The tokens that the first block sees, and how many patches there are along y and x."""
    side = config.patch
    height, width = inputs.shape[1] // side, inputs.shape[2] // side
    if 0 in (height, width):
        raise ValueError(f"inputs: expected at least {side} pixels a side, one patch, got {inputs.shape[1:3]}")

    def cut_and_multiply(inputs, kernel):
        cut = inputs[:, : height * side, : width * side].reshape(len(inputs), height, side, width, side, 3)
        return cut.transpose(0, 1, 3, 2, 4, 5).reshape(len(inputs), height * width, side * side * 3) @ kernel

    kernel = params["patch"]["kernel"]
    bias = params["patch"].get("bias", jnp.zeros(kernel.shape[1:], kernel.dtype))
    tokens = rules.first(cut_and_multiply, inputs, kernel, bias[None, None])
    if config.rotary is None:
        positions = resized_positions(params["positions"], (height, width), antialias=config.antialias)
        tokens = rules.add(tokens, jnp.broadcast_to(positions.reshape(1, height * width, config.width), tokens.shape))
    if config.prefix:
        own = jnp.broadcast_to(params["prefix"][None], (len(inputs), *params["prefix"].shape))
        tokens = jnp.concatenate([own.astype(tokens.dtype), tokens], axis=1)
    tokens = _layer_norm(params["pre_norm"], tokens, config.epsilon, rules) if config.pre_norm else tokens
    return tokens, (height, width)


def _block(config: ViT, params: Params, tokens: Tokens, tap: OfArray, turn: OfArray, rules: Rules) -> Tokens:
    def scaled(name: str, change: Tokens) -> Tokens:
        return scale_channels(change, params[name], rules) if config.scaled else change

    normed = _layer_norm(params["norm1"], tokens, config.epsilon, rules)
    query, key, value = _heads(config, _linear(params["qkv"], normed, rules), 3)
    read = _linear(params["proj"], _attend(query, key, value, rules, tap, turn), rules)
    tokens = rules.add(tokens, scaled("scale1", read))
    normed = _layer_norm(params["norm2"], tokens, config.epsilon, rules)
    return rules.add(tokens, scaled("scale2", _mlp(config, params, normed, rules)))


def _heads(config: ViT, tokens: Tokens, parts: int) -> tuple[Float[Array, "N T h c"], ...]:
    """`parts` vectors of each token, cut up for the heads."""
    whole = tokens.reshape(*tokens.shape[:2], parts, config.heads, config.width // config.heads)
    return tuple(whole[:, :, part] for part in range(parts))


def _attend(
    query: Float[Array, "N Q h c"],
    key: Float[Array, "N T h c"],
    value: Float[Array, "N T h c"],
    rules: Rules,
    tap: OfArray = same,
    turn: OfArray = same,
) -> Float[Array, "N Q C"]:
    def compare(query, key):  # linear in each with the turn too, so that a rule for products holds
        query, key = turn(query), turn(key)
        return jnp.einsum("nqhc,nthc->nhqt", query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype), key)

    def read(softmax, value):
        return jnp.einsum("nhqt,nthc->nqhc", softmax, value)

    scores = rules.product(compare, query, key).astype(jnp.float32)
    softmax = tap(rules.softmax(functools.partial(jax.nn.softmax, axis=-1), scores).astype(value.dtype))
    return rules.product(read, softmax, value).reshape(*query.shape[:2], -1)


def _mlp(config: ViT, params: Params, tokens: Tokens, rules: Rules) -> Tokens:
    inner = _linear(params["fc1"], tokens, rules)
    if config.gated:
        gate, inner = jnp.split(inner, 2, axis=-1)
        inner = rules.product(jnp.multiply, rules.gelu(jax.nn.silu, gate), inner)
    else:
        inner = rules.gelu(GELUS[config.gelu], inner)
    return _linear(params["fc2"], inner, rules)


def _head(config: ViT, params: Params, tokens: Tokens, rules: Rules) -> Float[Array, "N D"]:
    if config.norm == "before":
        tokens = _layer_norm(params["norm"], tokens, config.epsilon, rules)
    first, patches = tokens[:, :1], tokens[:, config.prefix_length :]
    match config.pool:
        case "cls" | "distilled":
            pooled = first
        case "mean":
            pooled = rules.average(_mean, patches)
        case "cls_mean":
            pooled = jnp.concatenate([first, rules.average(_mean, patches)], axis=-1)
        case "map":
            pooled = _attention_pool(config, params["pool"], tokens, rules)
    if config.norm == "behind":
        pooled = _layer_norm(params["norm"], pooled, config.epsilon, rules)
    if config.pool == "distilled" and "head_dist" in params:
        both = _linear(params["head"], pooled, rules), _linear(params["head_dist"], tokens[:, 1:2], rules)
        return rules.average(_mean, jnp.concatenate(both, axis=1))[:, 0]
    return (_linear(params["head"], pooled, rules) if "head" in params else pooled)[:, 0]


def _mean(tokens: Tokens) -> Float[Array, "N one C"]:
    return tokens.mean(axis=1, keepdims=True)


def _attention_pool(config: ViT, params: Params, tokens: Tokens, rules: Rules) -> Float[Array, "N one C"]:
    """What one learned query reads of all tokens, and an MLP added to it."""
    probe = jnp.broadcast_to(params["probe"][None], (len(tokens), *params["probe"].shape))
    (query,) = _heads(config, _linear(params["query"], probe, rules), 1)
    key, value = _heads(config, _linear(params["key_value"], tokens, rules), 2)
    read = _linear(params["proj"], _attend(query, key, value, rules), rules)
    normed = _layer_norm(params["norm"], read, config.epsilon, rules)
    return rules.add(read, _mlp(config, params, normed, rules))


def _linear(params: Params, inputs: Float[Array, "N T I"], rules: Rules) -> Float[Array, "N T O"]:
    kernel = params["kernel"]
    bias = params.get("bias", jnp.zeros(kernel.shape[1:], kernel.dtype))
    return rules.dense(jnp.matmul, inputs, kernel, bias[None, None])


def _layer_norm(params: Params, tokens: Tokens, epsilon: float, rules: Rules) -> Tokens:
    return rules.normalize(tokens, params["scale"], params["bias"], epsilon)
