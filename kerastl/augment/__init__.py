"""Images changed: keras-cv layers in the tf.data graph, repeatable to the byte."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
