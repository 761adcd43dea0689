"""The files of a run folder: written atomically, read back, never overwritten. No TensorFlow."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
