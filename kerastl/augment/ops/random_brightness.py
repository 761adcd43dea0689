"""Add a random number to all pixels of an image, clipped to [0, 255]."""

from typing import Any

from kerastl.augment.operation_options import Extreme, percent, range_ends
from kerastl.options import Fraction, StrictModel

COMPILES = True


class Options(StrictModel):
    """Options of `random_brightness`.

    Args:
        max_fraction: Maximum shift in either direction, as a fraction of 255.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (shifts of up to 40% of the range)."""
    return Options(max_fraction=0.4 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    shift = f"{percent(options.max_fraction)} of 255"
    return range_ends(f"-{shift}", f"+{shift}")


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the keras-cv layer."""
    from keras_cv import layers

    fraction = options.max_fraction
    return layers.RandomBrightness((-fraction, fraction), value_range=(0, 255), **kwargs)
