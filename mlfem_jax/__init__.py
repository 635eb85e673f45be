"""MLFEM in JAX: what a vision classifier looked at, and whether people looked there too.

Images are (height, width, 3), RGB, uint8 or float in [0, 1]; coordinates are (y, x) in pixels; importance maps are
(height, width) float32 in [0, 1]. Functions whose name is singular take one example: batch them with `jax.vmap`.
"""

from mlfem_jax import faithfulness, metrics
from mlfem_jax.backbones.adapters import from_function, from_linen, from_nnx
from mlfem_jax.backbones.base import Backbone
from mlfem_jax.backbones.registry import backbone_names, load_backbone
from mlfem_jax.explain import explain, map_batches
from mlfem_jax.fem import fem, importance_map, layer_maps, normalize, upsample
from mlfem_jax.fusion import fuse
from mlfem_jax.gaze import gaze_densities, gaze_density, observer_weights, sigma_px_of
from mlfem_jax.memory import batch_bytes
from mlfem_jax.methods import methods

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "backbone_names",
    "batch_bytes",
    "explain",
    "faithfulness",
    "fem",
    "from_function",
    "from_linen",
    "from_nnx",
    "fuse",
    "gaze_densities",
    "gaze_density",
    "importance_map",
    "layer_maps",
    "load_backbone",
    "map_batches",
    "methods",
    "metrics",
    "normalize",
    "observer_weights",
    "sigma_px_of",
    "upsample",
]
