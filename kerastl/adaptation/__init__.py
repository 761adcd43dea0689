"""Learn when the images change: one file a method, losses that work by themselves, and a choice that needs no target labels."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
