"""Equalize the histogram of each channel.

On 8-bit levels the equalized image equals Pillow's `ImageOps.equalize`; finer levels are interpolated. It is
blended with the original by a random fraction. The order of the levels of a channel is kept. Constant images
and images of fewer than 256 pixels are unchanged, gray images stay gray.
"""

from typing import Any

from kerastl.augment.operation_options import Extreme, percent
from kerastl.options import Fraction, StrictModel

COMPILES = True
READS_NEIGHBORS = True


class Options(StrictModel):
    """Options of `equalization`.

    Args:
        max_fraction: Maximum weight of the equalized image, 0 to 1; uniform from 0.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction = 1.0
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (any blend)."""
    return Options(max_fraction=strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return [Extreme(f"{percent(options.max_fraction)} equalized", rest=1.0)]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv subtracts the wrong histogram bin and does not compile."""
    from kerastl.augment.layers.color_layers import Equalization

    return Equalization(options, **kwargs)
