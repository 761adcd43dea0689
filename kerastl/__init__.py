"""kerastl: transfer learning for image classification on Keras 3 and TensorFlow."""

from typing import Any

import lazy_loader

__version__ = "0.1.0"
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
WITHOUT_TENSORFLOW = ("Collection", "Phase")


def __getattr__(name: str) -> Any:
    if name in __all__ and name not in WITHOUT_TENSORFLOW:
        from kerastl.console import load_tensorflow

        load_tensorflow(freeze=False)
    return _load(name)
