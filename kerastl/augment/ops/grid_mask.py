"""Mask a rotated grid of squares (Chen et al. 2020, arXiv:2001.04086).

The grid period is 0.3 to 0.5 of the shorter side. The side of a square is a fraction of the period, uniform
from 0 to `max_fraction`, so that `max_fraction ** 2 / 3` of the area is masked on average. Other pixels are
unchanged.
"""

from typing import Any

from kerastl.augment.operation_options import MIDDLE_GRAY, Degrees, Extreme, Level, MaskFill
from kerastl.options import Fraction, StrictModel

COMPILES = True
FULL_STRENGTH_FRACTION = 0.7
"""Masks 16% of the area on average, about half at most."""


class Options(StrictModel):
    """Options of `grid_mask`.

    Args:
        max_fraction: Maximum side of the squares as a fraction of the grid period, 0 to 1.
        max_deg: Maximum rotation of the grid in either direction, in degrees. 45 covers all orientations.
        fill_mode: `constant`, or `gaussian_noise` with a standard deviation of 42.5 levels, clipped to [0,
            255].
        fill_value: Fill level or mean of the noise, 0 to 255. Most backbones map the default, middle gray, to
            about 0.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction
    max_deg: Degrees = 45.0
    fill_mode: MaskFill = "constant"
    fill_value: Level = MIDDLE_GRAY
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (squares of 70% of the period)."""
    return Options(max_fraction=FULL_STRENGTH_FRACTION * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    squares = f"squares {options.max_fraction:g} of the period"
    return [
        Extreme(f"{squares}, smallest period, not rotated", (0.0, 0.5, 0.5, 1.0)),
        Extreme(f"{squares}, largest period, +{options.max_deg:g} deg", (1.0, 1.0, 0.5, 1.0)),
    ]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv rotates masks one by one, blurs them, and fails with noise."""
    from kerastl.augment.layers.masks_layers import GridMask

    return GridMask(options, **kwargs)
