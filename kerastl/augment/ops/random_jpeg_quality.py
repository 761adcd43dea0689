"""Compress images as JPEG, with 8 x 8 blocks and chroma subsampling.

Levels are rounded to integers. Quality 100 leaves an image unchanged. XLA cannot compile the encoder: images
are processed one by one. Gray images stay gray.
"""

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.augment.operation_options import Extreme
from kerastl.options import Fraction, StrictModel

MAX_QUALITY = 100
FULL_STRENGTH_MIN_QUALITY = 10


class Options(StrictModel):
    """Options of `random_jpeg_quality`.

    Args:
        min_quality: Minimum JPEG quality, 1 to 100 (identity); uniform over the integers up to 100. Blocks
            are visible below about 50.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    min_quality: Annotated[int, Ge(1), Le(100)] = 50
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (qualities down to 10)."""
    return Options(min_quality=round(MAX_QUALITY - (MAX_QUALITY - FULL_STRENGTH_MIN_QUALITY) * strength))


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return [Extreme(f"quality {options.min_quality}", rest=0.0)]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv expects levels in [0, 1] and returns white images."""
    from kerastl.augment.layers.color_layers import RandomJpegQuality

    return RandomJpegQuality(options, **kwargs)
