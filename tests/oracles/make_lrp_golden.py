"""Makes golden/lrp_vit.npz: AttnLRP and CP-LRP of a tiny vision transformer, by the functions of lxt.

    python tests/oracles/make_lrp_golden.py

Made with lxt 2.1 (the rules' authors'), torch 2.14.1, in double precision (neither is needed to run the tests). The
network is golden/vit_timm.npz on its synthetic weights (epsilon is 1e-12, for lxt adds it without the sign), written
out in lxt's functions, every one of which gives relevance in the place of a gradient. lxt has no CP-LRP: what differs
from AttnLRP is written here. The file holds the relevance of the image for a class by both.
"""

import json

import numpy as np
import torch
from golden import FOLDER
from lxt.explicit import functional as lxt
from make_vit_golden import DEPTH, HEADS, NATIVE, PATCH, WIDTH, weight
from synthetic_weights import synthetic_inputs

CLASS, EPSILON = 3, 1e-12


class Gelu(torch.autograd.Function):
    """Relevance goes through."""

    @staticmethod
    def forward(ctx, x):
        return torch.nn.functional.gelu(x)

    @staticmethod
    def backward(ctx, relevance):
        return relevance


class Read(torch.autograd.Function):
    """Attention times values, for the values alone (Ali et al. 2022)."""

    @staticmethod
    def forward(ctx, attention, values):
        ctx.save_for_backward(attention, values)
        return attention @ values

    @staticmethod
    def backward(ctx, relevance):
        attention, values = ctx.saved_tensors
        return None, values * (attention.transpose(-1, -2) @ (relevance / (attention @ values + EPSILON)))


def network(arrays: dict[str, torch.Tensor], images: torch.Tensor, *, conservative: bool) -> torch.Tensor:
    """The logits of images (N, H, W, 3)."""

    def linear(name, x):
        return lxt.linear_epsilon(x, arrays[f"{name}.weight"], arrays[f"{name}.bias"], EPSILON)

    def norm(name, x):
        return lxt.layer_norm_grad_fn.apply(x, arrays[f"{name}.weight"], arrays[f"{name}.bias"], 1e-6, EPSILON)

    count, side, half = len(images), images.shape[1] // PATCH, WIDTH // HEADS
    cut = images.reshape(count, side, PATCH, side, PATCH, 3).permute(0, 1, 3, 5, 2, 4).reshape(count, side * side, -1)
    kernel = arrays["patch_embed.proj.weight"].reshape(WIDTH, -1)
    tokens = lxt.linear_epsilon(cut, kernel, arrays["patch_embed.proj.bias"], EPSILON)
    tokens = lxt.add2(tokens, arrays["pos_embed"][:, 1:].expand(count, -1, -1), False, EPSILON)
    first = (arrays["cls_token"] + arrays["pos_embed"][:, :1]).expand(count, -1, -1)
    tokens = torch.cat([first, tokens], dim=1)
    for index in range(DEPTH):
        block = f"blocks.{index}"
        scale = torch.ones(3 * WIDTH, dtype=torch.float64)
        scale[:WIDTH] = half**-0.5  # of the queries, as a part of their weights
        qkv = lxt.linear_epsilon(
            norm(f"{block}.norm1", tokens),
            arrays[f"{block}.attn.qkv.weight"] * scale[:, None],
            arrays[f"{block}.attn.qkv.bias"] * scale,
            EPSILON,
        )
        query, key, value = qkv.reshape(count, -1, 3, HEADS, half).permute(2, 0, 3, 1, 4)
        attention = lxt.softmax(lxt.matmul(query, key.transpose(-1, -2), False, EPSILON), -1)
        read = Read.apply(attention.detach(), value) if conservative else lxt.matmul(attention, value, False, EPSILON)
        read = read.transpose(1, 2).reshape(count, -1, WIDTH)
        tokens = lxt.add2(tokens, linear(f"{block}.attn.proj", read), False, EPSILON)
        inner = Gelu.apply(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", tokens)))
        tokens = lxt.add2(tokens, linear(f"{block}.mlp.fc2", inner), False, EPSILON)
    return linear("head", norm("norm", tokens)[:, 0])


def main() -> None:
    """Writes the file."""
    with np.load(FOLDER / "vit_timm.npz") as file:
        shapes, expected = json.loads(str(file["state_dict"])), file["native_outputs"]
    arrays = {name: torch.from_numpy(weight(name, tuple(shape))).double() for name, shape in shapes.items()}
    found = {}
    for name, conservative in (("attn", False), ("cp", True)):
        images = torch.from_numpy(synthetic_inputs(NATIVE)).double().requires_grad_()
        logits = network(arrays, images, conservative=conservative)
        np.testing.assert_allclose(logits.detach(), expected, rtol=1e-5, atol=1e-5)
        start = torch.zeros_like(logits)
        start[:, CLASS] = logits.detach()[:, CLASS]
        logits.backward(start)
        found[name] = images.grad.sum(dim=-1).numpy().astype(np.float32)
        print(name, "logits", logits[:, CLASS].tolist(), "relevance", images.grad.sum(dim=(1, 2, 3)).tolist())
    np.savez_compressed(FOLDER / "lrp_vit.npz", **found)


if __name__ == "__main__":
    main()
