"""Change brightness, contrast, saturation and hue, in this order.

The result stays in [0, 255], and gray pixels stay gray.
"""

from typing import Any

from kerastl.augment.operation_options import Degrees, Extreme, percent, range_ends
from kerastl.options import Fraction, StrictModel

NEEDS_COLOR = True
COMPILES = True


class Options(StrictModel):
    """Options of `random_color_jitter`. The default of each is no change.

    Args:
        max_brightness_fraction: Maximum shift in either direction, as a fraction of 255.
        max_contrast_fraction: 0.2 multiplies the distance from the channel mean by 0.8 to 1.2.
        max_saturation_fraction: 0.2 multiplies the HSV saturation by 0.8 to 1.2.
        max_hue_deg: Maximum hue shift in either direction, in degrees, 0 to 180.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_brightness_fraction: Fraction = 0.0
    max_contrast_fraction: Fraction = 0.0
    max_saturation_fraction: Fraction = 0.0
    max_hue_deg: Degrees = 0.0
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1.

    1 is half the strength of SimCLR's color distortion (Chen et al. 2020, arXiv:2002.05709, appendix A).
    """
    fraction = 0.4 * strength
    return Options(
        max_brightness_fraction=fraction,
        max_contrast_fraction=fraction,
        max_saturation_fraction=fraction,
        max_hue_deg=36.0 * strength,
    )


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""

    def describe(sign: str, side: int) -> str:
        parts = (
            (options.max_brightness_fraction, f"brightness {sign}{percent(options.max_brightness_fraction)}"),
            (options.max_contrast_fraction, f"contrast x {1 + side * options.max_contrast_fraction:g}"),
            (options.max_saturation_fraction, f"saturation x {1 + side * options.max_saturation_fraction:g}"),
            (options.max_hue_deg, f"hue {sign}{options.max_hue_deg:g} deg"),
        )
        return ", ".join(text for strength, text in parts if strength)

    return range_ends(describe("-", -1), describe("+", 1))


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The random numbers of the keras-cv layer cannot be replaced."""
    from kerastl.augment.layers.color_layers import RandomColorJitter

    return RandomColorJitter(options, **kwargs)
