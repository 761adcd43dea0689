"""Convert images to gray, with three equal channels.

Gray pixels, the luma of a pixel and the number of channels are unchanged.
"""

from typing import Any

from kerastl.augment.operation_options import Extreme
from kerastl.options import Fraction, StrictModel

NEEDS_COLOR = True
COMPILES = True


class Options(StrictModel):
    """Options of `grayscale`.

    Args:
        apply_probability: Fraction of the images that are converted, 0 to 1.
    """

    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (all images are converted)."""
    return Options(apply_probability=strength)


def extremes(options: Options) -> list[Extreme]:  # noqa: ARG001 - part of the interface
    """Return the strongest settings for the preview."""
    return [Extreme("gray")]


def build_layer(options: Options, **kwargs: Any) -> Any:  # noqa: ARG001 - part of the interface
    """Build the layer. The luma weights of keras-cv do not sum to 1."""
    from kerastl.augment.layers.color_layers import Grayscale

    return Grayscale(output_channels=3, **kwargs)
