"""Makes golden/vit_*.npz: what timm, torchvision and transformers make of tiny vision transformers.

    python tests/oracles/make_vit_golden.py [NAME ...]

Made with torch 2.14.1, torchvision 0.29.1, timm 1.0.31 and transformers 5.24.0 (none is needed to run the tests). Each
file holds the outputs of the head, the tokens behind every block with those before the patches, every attention
softmax, and `state_dict`, the names and shapes that the synthetic weights are made from.
"""

import functools
import json
import sys

import numpy as np
import timm
import torch
import torchvision
import transformers
from golden import FOLDER
from synthetic_weights import centered, synthetic_inputs, uniform
from timm.layers import SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

SIDE, PATCH, WIDTH, DEPTH, HEADS, HIDDEN, CLASSES = 32, 8, 16, 2, 2, 32, 5
NATIVE, WIDE = (2, SIDE, SIDE, 3), (1, 40, 24, 3)

TIMM = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "mlp_ratio": 2}
TIMM |= {"num_classes": CLASSES, "dynamic_img_size": True}
HUGGING = {"image_size": SIDE, "patch_size": PATCH, "hidden_size": WIDTH, "num_hidden_layers": DEPTH}
HUGGING |= {"num_attention_heads": HEADS, "attn_implementation": "eager"}
MLP, DINO, LABELS = {"intermediate_size": HIDDEN}, {"mlp_ratio": 2}, {"num_labels": CLASSES}
# As timm's vit_*_patch16_dinov3 are made, but that the class token is what they give.
EVA = TIMM | {"num_classes": 0, "global_pool": "token", "use_fc_norm": False, "init_values": 1.0, "num_reg_tokens": 4}
EVA |= {"rope_type": "dinov3", "rope_temperature": 100, "rope_rotate_half": True, "use_rot_pos_emb": True}
EVA |= {"use_abs_pos_emb": False, "norm_layer": functools.partial(torch.nn.LayerNorm, eps=1e-5)}


def torchvision_vit():
    """ViT of torchvision, which takes images of its own size alone."""
    sizes = {"image_size": SIDE, "patch_size": PATCH, "num_layers": DEPTH, "num_heads": HEADS}
    return torchvision.models.VisionTransformer(**sizes, hidden_dim=WIDTH, mlp_dim=HIDDEN, num_classes=CLASSES)


MODELS = {
    "torchvision": torchvision_vit,
    "timm": lambda: VisionTransformer(**TIMM),
    "timm_mean": lambda: VisionTransformer(**TIMM, global_pool="avg", class_token=False),
    "timm_distilled": lambda: VisionTransformerDistilled(**TIMM),
    "timm_dinov2_registers": lambda: VisionTransformer(
        **TIMM | {"num_classes": 0}, reg_tokens=4, no_embed_class=True, init_values=1.0
    ),
    "timm_dinov2_gated": lambda: VisionTransformer(
        **TIMM | {"num_classes": 0, "mlp_ratio": 4}, init_values=1.0, mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU
    ),
    "timm_siglip": lambda: VisionTransformer(
        **TIMM | {"num_classes": 0}, global_pool="map", class_token=False, act_layer="gelu_tanh"
    ),
    "timm_clip": lambda: VisionTransformer(
        **TIMM, pre_norm=True, norm_layer=torch.nn.LayerNorm, act_layer="quick_gelu"
    ),
    "hf_vit": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**HUGGING, **MLP, **LABELS)),
    "hf_deit": lambda: transformers.DeiTForImageClassificationWithTeacher(
        transformers.DeiTConfig(**HUGGING, **MLP, **LABELS)
    ),
    "hf_dinov2": lambda: transformers.Dinov2ForImageClassification(
        transformers.Dinov2Config(**HUGGING, **DINO, **LABELS)
    ),
    "hf_dinov2_registers_gated": lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**HUGGING, **DINO, use_swiglu_ffn=True)
    ),
    "hf_dinov3": lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**HUGGING, **MLP, num_register_tokens=4)
    ),
    "hf_dinov3_gated": lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(
            **HUGGING, intermediate_size=24, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu"
        )
    ),
    "timm_dinov3": lambda: Eva(**EVA, qkv_bias=True),
    "timm_dinov3_gated": lambda: Eva(**EVA | {"mlp_ratio": 1.5}, qkv_bias=False, swiglu_mlp=True, swiglu_align_to=8),
    "hf_clip": lambda: transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**HUGGING, **MLP, projection_dim=6)
    ),
    "hf_siglip": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**HUGGING, **MLP)),
}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights that keep tokens near 1 and make attention differ from token to token."""
    if name.endswith(("gamma", "gamma_1", "gamma_2", "lambda1")) or (len(shape) == 1 and name.endswith("weight")):
        return uniform(name, shape) + np.float32(0.5)
    if len(shape) == 1:
        return centered(name, shape, 0.1)
    return centered(name, shape, 0.5 if "token" in name or "embed" in name else 2 / np.prod(shape[1:]) ** 0.5)


def blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks, in order: the one list of modules of the right length."""
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList | torch.nn.Sequential) and len(m) == DEPTH]
    return list(next(m for m in lists if any(isinstance(part, torch.nn.LayerNorm) for part in m[0].modules())))


def heard(model: torch.nn.Module, softmaxes: list[np.ndarray]):
    """Notes every softmax over attention scores (N, heads, T, T), computed by whichever function."""
    plain, scaled = torch.nn.functional.softmax, torch.nn.functional.scaled_dot_product_attention

    def softmax(scores, *args, **kwargs):
        found = plain(scores, *args, **kwargs)
        if found.ndim == 4 and found.shape[-1] == found.shape[-2]:
            softmaxes.append(found.numpy().copy())
        return found

    def attend(query, key, value, *_, **__):
        attention = plain(query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5, dim=-1)
        if attention.shape[-1] == attention.shape[-2]:
            softmaxes.append(attention.numpy().copy())
        return attention @ value

    return (softmax, attend), (plain, scaled)


@torch.no_grad()
def run(name: str, model: torch.nn.Module, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Outputs, blocks and attentions of synthetic images of a shape."""
    tokens, softmaxes = [], []
    hooks = [
        block.register_forward_hook(
            lambda _, __, out: tokens.append((out[0] if isinstance(out, tuple) else out).numpy())
        )
        for block in blocks(model)
    ]
    new, old = heard(model, softmaxes)
    functional = torch.nn.functional
    functional.softmax, functional.scaled_dot_product_attention = new
    # torchvision's attention takes a fused path in inference, which would hide its softmax.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        images = torch.from_numpy(synthetic_inputs(shape)).permute(0, 3, 1, 2).double()
        options = {"interpolate_pos_encoding": True} if name in ("hf_vit", "hf_deit", "hf_clip", "hf_siglip") else {}
        outputs = model(images, **options)
    finally:
        functional.softmax, functional.scaled_dot_product_attention = old
        for hook in hooks:
            hook.remove()
    for field in ("logits", "image_embeds", "pooler_output"):
        outputs = outputs.get(field, outputs) if hasattr(outputs, "get") else outputs
    assert len(tokens) == len(softmaxes) == DEPTH, (name, len(tokens), len(softmaxes))
    return {"outputs": outputs.numpy(), "tokens": np.stack(tokens), "attentions": np.stack(softmaxes)}


def make(name: str) -> None:
    """Writes one network's golden file."""
    model = MODELS[name]().eval()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(weight(key, shape)) for key, shape in shapes.items()}, strict=True)
    model.double()
    found = {"native": run(name, model, NATIVE)}
    if name != "torchvision":
        found["wide"] = run(name, model, WIDE)
    arrays = {f"{size}_{key}": value.astype(np.float32) for size, each in found.items() for key, value in each.items()}
    np.savez_compressed(FOLDER / f"vit_{name}.npz", **arrays, state_dict=json.dumps(shapes))
    print(name, {key: (value.shape, round(float(np.abs(value).max()), 2)) for key, value in arrays.items()})


if __name__ == "__main__":
    print(torch.__version__, torchvision.__version__, timm.__version__, transformers.__version__)
    for model_name in sys.argv[1:] or MODELS:
        make(model_name)
