"""The steps of a run that know what a recipe is: each turns a part of it into calls of one room."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
