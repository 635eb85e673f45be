"""Networks, fusions and calls of the host that mean nothing: what is compiled depends on their shapes alone."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

import mlfem_jax as mlfem
from mlfem_jax.attribution import Method, method
from mlfem_jax.backbones import Backbone
from mlfem_jax.fusion import PACKAGED, FusionNet, MapRecipe, TrainedFusion, save_fusion
from mlfem_jax.training import fusion as fusions


def stand_in_backbone(name: str) -> Backbone:
    """A network of zeros: drawing ResNet-50's weights would take as long as compiling it for a GPU."""
    built: list[Backbone] = []

    def params() -> Any:
        built.append(mlfem.load_backbone(name, "random"))
        return built[0].params

    shapes = jax.eval_shape(params)
    return dataclasses.replace(built[0], params=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))


def with_fusion(asked: Method, backbone: Backbone, folder: Path) -> Method:
    """The method; a learned fusion that does not ship for the network gets drawn weights, from a file in `folder`."""
    options: dict[str, Any] = dict(asked.options)
    architecture = options.get("architecture", "channels")
    if asked.name != "net" or "weights" in options or (architecture, backbone.name) in PACKAGED:
        return asked
    net, recipe = fusion_shape(architecture, backbone)
    draw = np.random.default_rng(0).standard_normal
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0)))
    params = jax.tree.map(lambda leaf: draw(leaf.shape, np.float32), shapes)
    path = folder / f"{architecture}.safetensors"
    save_fusion(path, TrainedFusion(net, params, backbone.name, recipe.layers, recipe.ks, {}))
    return method("net", weights=str(path))


def fusion_shape(architecture: str, backbone: Backbone) -> tuple[FusionNet, MapRecipe]:
    """A fusion network as `mlfem train fusion` makes it for the backbone, and what it reads."""
    config = fusions.Config(Path(), Path(), architecture=architecture)  # pyrefly: ignore[bad-argument-type]
    return fusions.fusion_shape(config, backbone)


def calls_without_device() -> contextlib.AbstractContextManager[Any]:
    """Calls of the host are those of a GPU, and call nothing: while JAX lowers its own, it looks for a live GPU."""

    def call(_: Any, shapes: Any, *operands: Any, vmap_method: str) -> Any:
        of_gpu = jax.ffi.ffi_call("xla_ffi_python_gpu_callback", shapes, vmap_method=vmap_method)
        return of_gpu(*operands, index=np.uint64(0))

    return mock.patch.object(jax, "pure_callback", call)
