"""Stretch each channel to the whole range: its darkest value to 0, its brightest to 255.

Fully stretched this is Pillow's `ImageOps.autocontrast` before Pillow cuts the decimals off. How much of it is mixed into
the original is drawn for each image, so that the operation has a strength.

Never: change a channel of one level, also where float32 has rounded it; narrow the range of a channel; colour a grey
image.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True
READS_NEIGHBORS = True


class Options(StrictModel):
    """Options of `auto_contrast`.

    Args:
        max_fraction: largest share of the stretched image in the mix, 0 (the original) to 1; uniform from 0 to it.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)] = 1.0
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, any mix of the original and the stretched image."""
    return Options(max_fraction=strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer. keras-cv's own makes noise of a constant image that float32 has rounded."""
    from kerastl.augment.layers.color_layers import AutoContrast

    return AutoContrast(options.max_fraction, **kwargs)
