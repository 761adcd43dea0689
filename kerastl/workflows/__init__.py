"""How many labels does B need? Many runs of one recipe, with more and more labelled patients of the target."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
