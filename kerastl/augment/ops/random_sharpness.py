"""Sharpen or soften images.

A difference d equals the factor 1 + d of Pillow's `ImageEnhance.Sharpness`: -1 is the image smoothed over 3 x
3 pixels, 0 the original. The result stays in [0, 255]; constant images and the outermost pixels are
unchanged.
"""

from typing import Any, Literal

from kerastl.augment.operation_options import Extreme
from kerastl.options import Fraction, StrictModel

COMPILES = True
READS_NEIGHBORS = True


class Options(StrictModel):
    """Options of `random_sharpness`.

    Args:
        max_fraction: Maximum difference, 0 to 1; uniform from -max_fraction (softer) to max_fraction
            (sharper).
        direction: `both`, or only `sharper` or `softer`.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction
    direction: Literal["both", "sharper", "softer"] = "both"
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (Pillow's factors 0 to 2)."""
    return Options(max_fraction=strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    softer = Extreme(f"softer by {options.max_fraction:g}", rest=0.0)
    sharper = Extreme(f"sharper by {options.max_fraction:g}", rest=1.0)
    return {"both": [softer, sharper], "softer": [softer], "sharper": [sharper]}[options.direction]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv only softens."""
    from kerastl.augment.layers.color_layers import RandomSharpness

    return RandomSharpness(options, **kwargs)
