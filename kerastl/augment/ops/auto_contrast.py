"""Stretch each channel to the full range: its minimum becomes 0, its maximum 255.

The stretched image equals Pillow's `ImageOps.autocontrast` before truncation. It is blended with the original
by a random fraction. Constant channels are unchanged, gray images stay gray.
"""

from typing import Any

from kerastl.augment.operation_options import Extreme, percent
from kerastl.options import Fraction, StrictModel

COMPILES = True
READS_NEIGHBORS = True


class Options(StrictModel):
    """Options of `auto_contrast`.

    Args:
        max_fraction: Maximum weight of the stretched image, 0 to 1; uniform from 0.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction = 1.0
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (any blend)."""
    return Options(max_fraction=strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return [Extreme(f"{percent(options.max_fraction)} stretched", rest=1.0)]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv amplifies rounding errors of constant images to noise."""
    from kerastl.augment.layers.color_layers import AutoContrast

    return AutoContrast(options, **kwargs)
