"""Change the saturation. Hues, the largest channel of each pixel, and gray pixels are unchanged.

The linear model keeps the luma of each pixel instead of its largest channel.
"""

from typing import Any, Literal

from kerastl.augment.operation_options import Extreme, range_ends
from kerastl.options import Fraction, StrictModel

NEEDS_COLOR = True
SATURATES = True


class Options(StrictModel):
    """Options of `random_saturation`.

    Args:
        max_fraction: 0.3 multiplies the HSV saturation by 0.7 to 1.3.
        model: `hsv` as in keras-cv, or `linear`: one matrix per image, which is faster and gives different
            colors.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction
    model: Literal["hsv", "linear"] = "hsv"
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (0.2 to 1.8 times the saturation)."""
    return Options(max_fraction=0.8 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    fraction = options.max_fraction
    return range_ends(f"saturation x {1 - fraction:g}", f"saturation x {1 + fraction:g}")


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the keras-cv layer or its linear counterpart."""
    from keras_cv import layers

    from kerastl.augment.layers.color_layers import LinearSaturation

    fraction = options.max_fraction
    # keras-cv multiplies the saturation by x / (1 - x). At x = 1 gray pixels become NaN; here x is below 2 / 3.
    bounds = ((1 - fraction) / (2 - fraction), (1 + fraction) / (2 + fraction))
    layer = LinearSaturation if options.model == "linear" else layers.RandomSaturation
    return layer(bounds, **kwargs)


def hsv_change(params: Any) -> tuple[Any, Any]:
    """Return (saturation factor, hue shift in turns), each `[batch]`."""
    import tensorflow as tf

    return params / (1.0 - params), tf.zeros_like(params)
