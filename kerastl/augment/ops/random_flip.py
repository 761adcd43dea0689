"""Flip images, each direction with probability one half. Pixel values are unchanged."""

from typing import Any, Literal

from kerastl.augment.operation_options import Extreme
from kerastl.options import Fraction, StrictModel

COMPILES = True
RATE = 0.5
MODES = {"horizontal": "horizontal", "vertical": "vertical", "both": "horizontal_and_vertical"}


class Options(StrictModel):
    """Options of `random_flip`.

    Args:
        direction: `horizontal` (left to right), `vertical` (top to bottom) or `both` (each at random).
        apply_probability: Fraction of the images that may be flipped, 0 to 1.
    """

    direction: Literal["horizontal", "vertical", "both"] = "horizontal"
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (every image with probability one half)."""
    return Options(apply_probability=strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    horizontal, vertical = "left and right swapped", "top and bottom swapped"
    if options.direction == "both":
        return [Extreme(horizontal, (1.0, 0.0)), Extreme(vertical, (0.0, 1.0))]
    return [Extreme(horizontal if options.direction == "horizontal" else vertical, rest=1.0)]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the keras-cv layer."""
    from keras_cv import layers

    return layers.RandomFlip(MODES[options.direction], rate=RATE, **kwargs)


def maps(params: Any, size: tuple[int, int]) -> Any:
    """Return the affine maps for sampled parameters and (height, width) in pixels, `[batch, 6]`."""
    from kerastl.augment import geometry

    # As in keras-cv, which draws 0 for a direction that is not requested.
    left_right, top_bottom = (params[key][:, 0] > RATE for key in ("flip_horizontals", "flip_verticals"))
    return geometry.flip(left_right, top_bottom, size)
