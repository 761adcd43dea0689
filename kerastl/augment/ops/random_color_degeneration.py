"""Reduce the saturation by blending with the gray image.

Gray pixels and the luma of a pixel are unchanged.
"""

from typing import Any

from kerastl.augment.operation_options import Extreme, percent
from kerastl.options import Fraction, StrictModel

NEEDS_COLOR = True
COMPILES = True


class Options(StrictModel):
    """Options of `random_color_degeneration`.

    Args:
        max_fraction: Maximum weight of the gray image, 0 to 1; uniform from 0. At 1, the result is gray.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (any weight up to 1)."""
    return Options(max_fraction=strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return [Extreme(f"{percent(options.max_fraction)} gray", rest=1.0)]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The gray image of keras-cv is darker than the original."""
    from kerastl.augment.layers.color_layers import RandomColorDegeneration

    return RandomColorDegeneration((0.0, options.max_fraction), **kwargs)
