"""Keep only the leading bits of each level.

Levels never increase, and equal levels stay equal.
"""

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.augment.operation_options import Extreme
from kerastl.options import Fraction, StrictModel

COMPILES = True
MAX_BITS = 8
MIN_BITS_AT_FULL_STRENGTH = 2


class Options(StrictModel):
    """Options of `posterization`.

    Args:
        min_bits: Minimum number of bits that are kept, 1 to 8; uniform over the integers from min_bits to 7.
            8 is the identity.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    min_bits: Annotated[int, Ge(1), Le(8)]
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (8 bits) to 1 (2 bits).

    2 bits are the minimum of TrivialAugment's wide search space (Müller & Hutter 2021, arXiv:2103.10158,
    table 1).
    """
    min_bits = MAX_BITS - round(strength * (MAX_BITS - MIN_BITS_AT_FULL_STRENGTH))
    return Options(min_bits=min_bits)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return [Extreme(f"{options.min_bits} bits", rest=0.0)]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The number of bits of the keras-cv layer is fixed."""
    from kerastl.augment.layers.color_layers import Posterization

    return Posterization(options, **kwargs)
