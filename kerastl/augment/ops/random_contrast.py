"""Stretch or squeeze the values of each channel about their mean.

Never: leave [0, 255], or move a channel's mean but for what is clipped.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True


class Options(StrictModel):
    """Options of `random_contrast`.

    Args:
        max_fraction: 0.2 multiplies the distance from the mean by 0.8 to 1.2.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, 0.4 to 1.6 times the contrast."""
    return Options(max_fraction=0.6 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer, with means that do not depend on the batch."""
    from kerastl.augment.layers.color_layers import RandomContrast

    return RandomContrast(value_range=(0, 255), factor=options.max_fraction, **kwargs)
