"""Swin's state dicts, torchvision's, timm's, transformers' and its authors', to timm's names."""

import re
from collections.abc import Mapping

import numpy as np

from mlfem_jax.backbones.networks.joined import joined

_RENAMED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"^features\.0\.0\.", "patch_embed.proj."),
        (r"^features\.0\.2\.", "patch_embed.norm."),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.3\.", ".mlp.fc2."),
        (r"^head\.(weight|bias)$", r"head.fc.\1"),
        # transformers: its files, and what its version 5 calls the same in memory.
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.norm\.", "patch_embed.norm."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
        (r"\.attention\.self\.", ".attn."),
        (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
        (r"\.attention\.relative_position_bias\.", ".attn."),
        (r"\.attn\.([qkv])(uery|ey|alue)\.", r".attn.\1."),
        (r"\.continuous_position_bias_mlp\.", ".cpb_mlp."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
        (r"^encoder\.layers\.(\d+)\.blocks\.", r"layers.\1.blocks."),
        (r"^layernorm\.", "norm."),
        (r"^classifier\.", "head.fc."),
    ]
]
_COMPUTED = ("relative_position_index", "relative_coords_table", "attn_mask", "attn.k_bias")
"""Entries that some files keep although they follow from the architecture."""


def renamed(name: str) -> str:
    """An entry's name as timm has it, with "q", "k" and "v" for the parts of "qkv" where they lie apart.

    torchvision's stages and what lies between them take turns; transformers counts the latter with the stage before.
    """
    name = name.removeprefix("swin.").removeprefix("swinv2.")
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    before = re.match(r"encoder\.layers\.(\d+)\.downsample\.", name)
    if before:
        return f"layers.{int(before[1]) + 1}.downsample.{name[before.end() :]}"
    part = re.match(r"features\.(\d+)\.", name)
    if part:
        stage, between = divmod(int(part[1]), 2)
        inside = rf"layers.{stage}.blocks." if between else rf"layers.{stage}.downsample."
        name = name.replace(part[0], inside, 1)
    return name


def canonical(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict by timm's names, query, key and value with one bias.

    The authors' files count what lies between two stages with the stage before it. V2 has no bias of the keys:
    torchvision keeps zeros in its place, which training leaves as they are only in effect; timm has two entries.
    """
    arrays = {name: array for name, array in arrays.items() if not name.endswith(_COMPUTED)}
    if any(name.startswith("layers.0.downsample.") for name in arrays):
        shift = re.compile(r"^layers\.(\d)\.downsample\.")
        arrays = {shift.sub(lambda m: f"layers.{int(m[1]) + 1}.downsample.", n): a for n, a in arrays.items()}
    found = {renamed(name): array for name, array in arrays.items()}
    for name in [name for name in found if name.endswith("attn.logit_scale")]:  # transformers' V2 has none of the keys
        outer = name.removesuffix("logit_scale")
        if f"{outer}q.bias" in found:
            found.setdefault(f"{outer}k.bias", np.zeros_like(found[f"{outer}q.bias"]))
    found = joined(found, {"qkv": ("q", "k", "v")}, inside=r".*\.attn$")
    for name in [name for name in found if name.endswith("attn.logit_scale")]:
        outer = name.removesuffix("logit_scale")
        query, value, whole = (found.pop(f"{outer}{part}", None) for part in ("q_bias", "v_bias", "qkv.bias"))
        if query is not None and value is not None:
            whole = np.concatenate([query, np.zeros_like(query), value])
        elif whole is not None and whole.ndim == 1:
            whole = np.array(whole)
            whole[len(whole) // 3 : 2 * len(whole) // 3] = 0
        found |= {} if whole is None else {f"{outer}qkv.bias": whole}
    return found
