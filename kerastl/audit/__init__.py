"""Find augmentations that do not preserve the label, by cross-validated classifiers on frozen features. No TensorFlow."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
