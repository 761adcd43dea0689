"""Make the image sharper or softer.

A difference d gives what Pillow's `ImageEnhance.Sharpness` gives for the factor 1 + d: -1 is the image smoothed over
3 x 3 pixels, 0 the image, 1 the image plus all that smoothing would take from it.

Never: leave [0, 255], change a constant image, or change the outermost pixels.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True
READS_NEIGHBORS = True


class Options(StrictModel):
    """Options of `random_sharpness`.

    Args:
        max_fraction: largest difference, 0 to 1; each image's is uniform from -max_fraction (softer) to
            max_fraction (sharper), or on one side of 0 only.
        direction: `both`, `sharper` or `softer`.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)]
    direction: Literal["both", "sharper", "softer"] = "both"
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, nothing, to 1, Pillow's factors 0 to 2."""
    return Options(max_fraction=strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer that stands in for keras-cv's, which only softens."""
    from kerastl.augment.layers.color_layers import RandomSharpness

    return RandomSharpness(options.max_fraction, options.direction, **kwargs)
