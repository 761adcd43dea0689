"""Shift the hue of all pixels of an image by one angle. Gray pixels are unchanged."""

from typing import Any, Literal

from kerastl.augment.operation_options import Degrees, Extreme
from kerastl.options import Fraction, StrictModel

NEEDS_COLOR = True


class Options(StrictModel):
    """Options of `random_hue`.

    Args:
        max_deg: Maximum shift in either direction, in degrees, 0 to 180.
        model: `hsv` as in keras-cv, or `linear`: one matrix per image, which is faster and gives different
            colors.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_deg: Degrees
    model: Literal["hsv", "linear"] = "hsv"
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (shifts of up to 60 degrees)."""
    return Options(max_deg=60.0 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    # keras-cv draws the sign first, then the size.
    degrees = f"{options.max_deg:g} deg"
    return [Extreme(f"-{degrees}", (1.0, 1.0)), Extreme(f"+{degrees}", (0.0, 1.0))]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the keras-cv layer or its linear counterpart."""
    from keras_cv import layers

    from kerastl.augment.layers.color_layers import LinearHue

    layer = LinearHue if options.model == "linear" else layers.RandomHue
    return layer(options.max_deg / 180.0, value_range=(0, 255), **kwargs)


def hsv_change(params: Any) -> tuple[Any, Any]:
    """Return (saturation factor, hue shift in turns), each `[batch]`."""
    import tensorflow as tf

    return tf.ones_like(params), params
