"""The application: run recipes, read runs, preview and audit augmentation, estimate the label budget."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
