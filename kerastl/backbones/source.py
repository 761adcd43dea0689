"""Build a network as its own builder makes it: what files of weights are compared with."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kerastl.backbones.tables import backbone_named, checked_options, checked_size

if TYPE_CHECKING:
    import keras


def build_source(
    name: str, *, image_size_px: int | None = None, seed: int | None = None, **options: Any
) -> keras.Model:
    """Build the network as its own builder makes it, without top and with random weights.

    The builder is never given `name=`: Keras derives names of weights files from it.

    Raises:
        RequestError: unknown option, or a size below the smallest.
    """
    import keras

    backbone = backbone_named(name)
    size = checked_size(name, image_size_px)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    path, _, function = backbone.builder.rpartition(".")
    return getattr(importlib.import_module(path), function)(
        include_top=False,
        weights=None,
        input_shape=(size, size, 3),
        **dict(backbone.arguments),
        **checked_options(name, options),
    )
