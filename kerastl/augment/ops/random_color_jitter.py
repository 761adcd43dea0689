"""Change brightness, contrast, saturation and hue together, in this order.

Never: leave [0, 255], colour a grey pixel, or move the hues of one image by different angles.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

NEEDS_COLOR = True
COMPILES = True


class Options(StrictModel):
    """Options of `random_color_jitter`. What is not named is not changed.

    Args:
        max_brightness_fraction: largest shift either way, as a fraction of the range 0 to 255.
        max_contrast_fraction: 0.2 multiplies the distance from each channel's mean by 0.8 to 1.2.
        max_saturation_fraction: 0.2 multiplies the saturation (of HSV) by 0.8 to 1.2.
        max_hue_deg: largest turn either way, in degrees of the colour circle, 0 to 180.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_brightness_fraction: Annotated[float, Ge(0), Le(1)] = 0.0
    max_contrast_fraction: Annotated[float, Ge(0), Le(1)] = 0.0
    max_saturation_fraction: Annotated[float, Ge(0), Le(1)] = 0.0
    max_hue_deg: Annotated[float, Ge(0), Le(180)] = 0.0
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    fractions = (
        options.max_brightness_fraction,
        options.max_contrast_fraction,
        options.max_saturation_fraction,
    )
    return max(*fractions, options.max_hue_deg) == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, nothing, to 1, colours that still pass for a photograph.

    1 is the colour distortion of SimCLR at half its strength (Chen et al. 2020, arXiv:2002.05709, appendix A).
    """
    fraction = 0.4 * strength
    return Options(
        max_brightness_fraction=fraction,
        max_contrast_fraction=fraction,
        max_saturation_fraction=fraction,
        max_hue_deg=36.0 * strength,
    )


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer that stands in for keras-cv's, whose random numbers cannot be replaced."""
    from kerastl.augment.layers.color_layers import Jitter, RandomColorJitter

    jitter = Jitter(
        options.max_brightness_fraction,
        options.max_contrast_fraction,
        options.max_saturation_fraction,
        options.max_hue_deg,
    )
    return RandomColorJitter(jitter, **kwargs)
