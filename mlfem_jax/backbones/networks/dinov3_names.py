"""What files of DINOv3 hold beside weights, and leave out, against those of other vision transformers."""

from collections.abc import Mapping

import numpy as np

from mlfem_jax.backbones.networks.rotary import periods

BASE = 100.0
"""Of the periods of its rotary position embeddings; the same in all releases."""

_TRAINED_WITH = ("local_cls_norm.weight", "local_cls_norm.bias")  # the norm of small crops, in training alone
_ROUNDING = 2**-7  # the periods in the authors' files have been bfloat16


def settled(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The entries that other vision transformers have, from those of DINOv3; other networks' as they are.

    A key has no bias: where queries and values alone have one, and no positions are learned, the keys' is zero, and
    the authors' `bias_mask` is multiplied into the bias. An MLP that is not gated has an `up_proj` alone in
    transformers' files. The periods are those of `BASE`; if not, the entry stays, and is one too many.

    Args:
        arrays: by the names that `vit_names.renamed` gives.
    """
    found = {name: array for name, array in arrays.items() if name not in _TRAINED_WITH}
    rope = np.asarray(found.get("rope_embed.periods", np.zeros((0, 0))), np.float32)
    if rope.ndim == 1 and np.allclose(rope, periods(4 * len(rope), BASE), rtol=_ROUNDING, atol=0):
        del found["rope_embed.periods"]
    for name in [name for name in found if name.endswith(".attn.qkv.bias_mask")]:
        bias = found.get(name.removesuffix("_mask"), np.zeros(()))
        if bias.shape == found[name].shape:
            found[name.removesuffix("_mask")] = bias * found.pop(name).astype(bias.dtype)
    if not any(".mlp.gate_proj." in name for name in found):
        found = {name.replace(".mlp.up_proj.", ".mlp.fc1."): array for name, array in found.items()}
    if "pos_embed" not in found and not any(name.endswith(".attn.k.bias") for name in found):
        queries = [name for name in found if name.endswith(".attn.q.bias")]
        found |= {name.replace(".attn.q.", ".attn.k."): np.zeros_like(found[name]) for name in queries}
    return found
