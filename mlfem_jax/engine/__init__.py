"""Images in, anything out: one stream of batches, one compiled function for each."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
