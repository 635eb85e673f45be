"""Files and folders that are written: whole or not there, by one process at a time, never over somebody else's."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
