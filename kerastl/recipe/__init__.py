"""Recipes: from YAML to a validated, immutable Recipe, or an error that lists every problem."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
