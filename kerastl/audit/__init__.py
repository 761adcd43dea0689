"""Find augmentations that do not preserve the label, with cross-validated classifiers on frozen features."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
