"""Many importance maps to one: by algebra, and by networks trained on human gaze."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
