"""Put the three channels in a random order, each of the six equally often; one of them is the image's own.

Never: change a grey pixel, or a value; values only change their channel.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

NEEDS_COLOR = True
COMPILES = True


class Options(StrictModel):
    """Options of `channel_shuffle`.

    Args:
        apply_probability: share of the images whose channels are shuffled, 0 to 1; one in six of these keeps its
            order by chance.
    """

    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.apply_probability == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, nothing, to 1, every image shuffled."""
    return Options(apply_probability=strength)


def build_layer(options: Options, **kwargs: Any) -> Any:  # noqa: ARG001 - there is nothing to choose
    """Return keras-cv's layer. One channel a group: with more it mixes the groups even where their order stays."""
    from keras_cv import layers

    return layers.ChannelShuffle(groups=3, **kwargs)
