"""Blur images with a Gaussian of random width and reflected borders.

Constant images are unchanged.
"""

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.augment.operation_options import Extreme
from kerastl.options import Fraction, StrictModel

COMPILES = True
READS_NEIGHBORS = True


class Options(StrictModel):
    """Options of `random_gaussian_blur`.

    Args:
        max_sigma_px: Maximum standard deviation in pixels, 0 to 20; uniform from 0. The kernel radius is
            three times the maximum.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_sigma_px: Annotated[float, Ge(0), Le(20)]
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (a standard deviation of up to 2 pixels).

    2 pixels at 224 is the maximum of SimCLR (Chen et al. 2020, arXiv:2002.05709, appendix A).
    """
    return Options(max_sigma_px=2.0 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return [Extreme(f"sigma {options.max_sigma_px:g} px", rest=1.0)]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv darkens the borders."""
    from kerastl.augment.layers.color_layers import RandomGaussianBlur

    return RandomGaussianBlur(options, **kwargs)
