"""Networks as pure functions from images to logits and named activations, weight files, and adapters."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
