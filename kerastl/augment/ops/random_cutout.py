"""Mask one rectangle inside the image (DeVries & Taylor 2017, arXiv:1708.04552).

Height and width are independent and uniform from 0 to `max_fraction` of the side: `max_fraction ** 2 / 4` of
the area is masked on average. Pixels at the border are masked less often than those in the center.
"""

from typing import Any

from kerastl.augment.operation_options import MIDDLE_GRAY, Extreme, Level, MaskFill, percent
from kerastl.options import Fraction, StrictModel

COMPILES = True
FULL_STRENGTH_FRACTION = 0.7
"""Masks 12% of the area on average, below half at most."""


class Options(StrictModel):
    """Options of `random_cutout`.

    Args:
        max_fraction: Maximum height and width as a fraction of the side, 0 to 1.
        fill_mode: `constant`, or `gaussian_noise` with a standard deviation of 42.5 levels, clipped to [0,
            255].
        fill_value: Fill level or mean of the noise, 0 to 255. Most backbones map the default, middle gray, to
            about 0.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction
    fill_mode: MaskFill = "constant"
    fill_value: Level = MIDDLE_GRAY
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (rectangles of up to 70% of the sides)."""
    return Options(max_fraction=FULL_STRENGTH_FRACTION * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return [Extreme(f"{percent(options.max_fraction)} of height and width", (1.0, 0.5))]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv clips rectangles at the border and ties width to height."""
    from kerastl.augment.layers.masks_layers import RandomCutout

    return RandomCutout(options, **kwargs)
