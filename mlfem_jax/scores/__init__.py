"""Scores of methods over a data set: what is scored, the table of it, and its statistics."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
