"""MLFEM in JAX: what a vision classifier looked at, and whether people looked there too.

Images are (height, width, 3), RGB, uint8 or float in [0, 1]; coordinates are (y, x) in pixels; importance maps are
(height, width) float32 in [0, 1]. Functions whose name is singular take one example: batch them with `jax.vmap`.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
