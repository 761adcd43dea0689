"""Pictures in: readers, checks, splits, decoding, and the source of batches of every epoch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
