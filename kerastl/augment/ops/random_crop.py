"""Crop a window of fixed size at a random position and resize it to the size of the image.

The window consists of whole pixels; its corner pixels become the corner pixels of the result.
"""

from typing import Annotated, Any

from annotated_types import Ge, Lt

from kerastl.augment.operation_options import Extreme, range_ends
from kerastl.options import Fraction, StrictModel


class Options(StrictModel):
    """Options of `random_crop`.

    Args:
        max_fraction: Fraction of the height and of the width that is cut off, from 0 to below 1. 0.1 crops a window of
            0.9 times the height and width, rounded to whole pixels, at least 2.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Lt(1)]
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (windows of half the side)."""
    return Options(max_fraction=0.5 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    side = f"{1 - options.max_fraction:g} of the side"
    return range_ends(f"top left, {side}", f"bottom right, {side}")


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv skips rows and changes the image size."""
    from kerastl.augment.layers.geometry_layers import RandomCrop

    return RandomCrop(options, maps, **kwargs)


def maps(params: Any, size: tuple[int, int]) -> Any:
    """Return the affine maps for sampled parameters and (height, width) in pixels, `[batch, 6]`."""
    from kerastl.augment import geometry

    heights, widths = params["heights"] - 1.0, params["widths"] - 1.0
    return geometry.crop(params["tops"], params["lefts"], heights, widths, size)
