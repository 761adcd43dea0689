"""Domain adaptation: one file per method, and losses and image styles that can be used separately."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
