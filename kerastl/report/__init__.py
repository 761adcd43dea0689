"""Show people what happened in a run: one page, made from the files of its folder. No TensorFlow."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
