"""Blur the image, mirrored at its borders, with a Gaussian of random width.

Never: leave [0, 255], change a constant image, or move what the image shows.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True
READS_NEIGHBORS = True


class Options(StrictModel):
    """Options of `random_gaussian_blur`.

    Args:
        max_sigma_px: largest standard deviation of the Gaussian, in pixels, 0 to 20; each image's is uniform from
            0. The kernel reaches three of the largest standard deviations to each side.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_sigma_px: Annotated[float, Ge(0), Le(20)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_sigma_px == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, nothing, to 1, a standard deviation of 2 pixels.

    2 pixels at 224 is the strongest blur of SimCLR (Chen et al. 2020, arXiv:2002.05709, appendix A).
    """
    return Options(max_sigma_px=2.0 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer that stands in for keras-cv's, which darkens the borders."""
    from kerastl.augment.layers.color_layers import RandomGaussianBlur

    return RandomGaussianBlur(options.max_sigma_px, **kwargs)
