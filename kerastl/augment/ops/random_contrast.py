"""Scale each channel about its mean, clipped to [0, 255]."""

from typing import Any

from kerastl.augment.operation_options import Extreme, range_ends
from kerastl.options import Fraction, StrictModel

COMPILES = True


class Options(StrictModel):
    """Options of `random_contrast`.

    Args:
        max_fraction: 0.2 multiplies the distance from the mean by 0.8 to 1.2.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (0.4 to 1.6 times the contrast)."""
    return Options(max_fraction=0.6 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return range_ends(f"contrast x {1 - options.max_fraction:g}", f"contrast x {1 + options.max_fraction:g}")


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the keras-cv layer with channel means that do not depend on the batch."""
    from kerastl.augment.layers.color_layers import RandomContrast

    return RandomContrast(value_range=(0, 255), factor=options.max_fraction, **kwargs)
