"""The trainers: one loop, its checkpoints and its progress; a classifier's and a fusion's task."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
