"""Spread the levels of each channel so that about equally many pixels have each.

On whole levels a fully equalized image is that of Pillow's `ImageOps.equalize`, level for level; finer steps are
kept by interpolation. How much of it is mixed into the original is drawn for each image, so that the operation has a strength.

Never: change an image of one level, or of fewer than 256 pixels; turn around which of two pixels of a channel is brighter;
colour a grey image.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True
READS_NEIGHBORS = True


class Options(StrictModel):
    """Options of `equalization`.

    Args:
        max_fraction: largest share of the equalized image in the mix, 0 (the original) to 1; uniform from 0 to it.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)] = 1.0
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, any mix of the original and the equalized image."""
    return Options(max_fraction=strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer. keras-cv's own is too dark where the brightest level is not the rarest, and does not compile."""
    from kerastl.augment.layers.color_layers import Equalization

    return Equalization(options.max_fraction, **kwargs)
