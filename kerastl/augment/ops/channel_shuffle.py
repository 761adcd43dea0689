"""Permute the three channels; all six orders are equally likely, including the original one.

Gray pixels are unchanged.
"""

from typing import Any

from kerastl.augment.operation_options import Extreme
from kerastl.options import Fraction, StrictModel

NEEDS_COLOR = True
COMPILES = True


class Options(StrictModel):
    """Options of `channel_shuffle`.

    Args:
        apply_probability: Fraction of the images whose channels are shuffled, 0 to 1; one in six of them
            keeps its order by chance.
    """

    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (all images are shuffled)."""
    return Options(apply_probability=strength)


def extremes(options: Options) -> list[Extreme]:  # noqa: ARG001 - part of the interface
    """Return the strongest settings for the preview."""
    return [Extreme("red and blue swapped", ((1.0, 0.5, 0.0),))]


def build_layer(options: Options, **kwargs: Any) -> Any:  # noqa: ARG001 - part of the interface
    """Build the layer of keras-cv with one channel per group; it also shuffles within larger groups."""
    from keras_cv import layers

    return layers.ChannelShuffle(groups=3, **kwargs)
