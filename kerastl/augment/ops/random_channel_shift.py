"""Add a random number to each channel, clipped to [0, 255]. Grayscale images change their brightness."""

from typing import Any

from kerastl.augment.operation_options import Extreme, percent
from kerastl.options import Fraction, StrictModel

COMPILES = True


class Options(StrictModel):
    """Options of `random_channel_shift`.

    Args:
        max_fraction: Maximum shift of each channel in either direction, as a fraction of 255.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (shifts of up to 25% of the range)."""
    return Options(max_fraction=0.25 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    shift = percent(options.max_fraction)
    return [
        Extreme(f"red and blue -{shift}, green +{shift}", ((0.0, 1.0, 0.0),)),
        Extreme(f"red and blue +{shift}, green -{shift}", ((1.0, 0.0, 1.0),)),
    ]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. In a graph, the layer of keras-cv shifts all channels by one number."""
    from kerastl.augment.layers.color_layers import RandomChannelShift

    return RandomChannelShift(options, **kwargs)
