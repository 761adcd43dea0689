"""A model that others can serve: write it, check it in a fresh process, predict from it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
