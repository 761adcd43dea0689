"""Leave only the leading bits of every level.

Never: make a pixel brighter, or turn two equal levels of an image into different ones.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True
MOST_BITS = 8
FEWEST_BITS_ON_PHOTOGRAPHS = 2


class Options(StrictModel):
    """Options of `posterization`.

    Args:
        min_bits: fewest bits that are left of each level, a whole number from 1 to 8; each image keeps from
            min_bits to 7 bits, each number equally often. 8 changes nothing.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    min_bits: Annotated[int, Ge(1), Le(8)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.min_bits == MOST_BITS


def at_strength(strength: float) -> Options:
    """Return options from 0, all 8 bits, to 1, down to 2 bits (four levels a channel).

    2 bits are the fewest of TrivialAugment's wide search space (Müller & Hutter 2021, arXiv:2103.10158, table 1).
    """
    min_bits = MOST_BITS - round(strength * (MOST_BITS - FEWEST_BITS_ON_PHOTOGRAPHS))
    return Options(min_bits=min_bits)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer that stands in for keras-cv's, which cannot draw the number of bits."""
    from kerastl.augment.layers.color_layers import Posterization

    return Posterization(options.min_bits, **kwargs)
