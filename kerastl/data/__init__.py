"""Images in: readers, the check of every file, splits, the one decoder, epochs of batches."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
