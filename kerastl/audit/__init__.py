"""Which augmentation changes the class on this data set: cross-fitted judges on frozen features. No TensorFlow."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
