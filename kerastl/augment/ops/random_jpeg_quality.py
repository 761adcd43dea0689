"""Compress the image as JPEG does: blocks of 8 x 8 pixels, colours at half resolution.

JPEG holds whole levels: decimals are rounded first. Quality 100 means that the image is left alone, byte for byte. Encoding is
not something XLA compiles: it runs image by image, in order.

Never: touch an image whose quality is 100; colour a grey image.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

UNTOUCHED = 100
STRONGEST_MIN_QUALITY = 10
"""Blocks show plainly, and what a photograph shows can still be told."""


class Options(StrictModel):
    """Options of `random_jpeg_quality`.

    Args:
        min_quality: lowest quality of JPEG, 1 (worst) to 100 (leave alone); whole numbers from it to 100 are drawn
            equally often. From about 50 down the blocks are seen.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    min_quality: Annotated[int, Ge(1), Le(100)] = 50
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.min_quality == UNTOUCHED


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, the strongest that make sense on photographs."""
    return Options(min_quality=round(UNTOUCHED - (UNTOUCHED - STRONGEST_MIN_QUALITY) * strength))


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer. keras-cv's own takes levels for the range 0 to 1, and whitens the image."""
    from kerastl.augment.layers.color_layers import RandomJpegQuality

    return RandomJpegQuality(options.min_quality, **kwargs)
