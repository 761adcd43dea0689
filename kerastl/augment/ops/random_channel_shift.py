"""Add to each channel a number of its own. On grey images that is a change of brightness.

Never: leave [0, 255], or add different numbers to two pixels of one channel.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True


class Options(StrictModel):
    """Options of `random_channel_shift`.

    Args:
        max_fraction: largest shift of each channel either way, as a fraction of the range 0 to 255.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, nothing, to 1, shifts of up to a quarter of the range: a strong cast of colour."""
    return Options(max_fraction=0.25 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer that stands in for keras-cv's, which shifts all channels alike in a graph."""
    from kerastl.augment.layers.color_layers import RandomChannelShift

    return RandomChannelShift(options.max_fraction, **kwargs)
