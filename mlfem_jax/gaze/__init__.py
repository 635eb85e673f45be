"""Fixations to density maps, and where both go when a photograph is resized."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
