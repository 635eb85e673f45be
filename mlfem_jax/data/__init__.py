"""Gaze data sets: releases as people download them, prepared for fast reading, and the batches read from them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
