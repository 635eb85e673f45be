"""Photographs to a folder of pictures, maps and a page: what `mlfem explain` writes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
