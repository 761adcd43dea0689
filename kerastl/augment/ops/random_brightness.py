"""Add one number to every pixel.

Never: leave [0, 255], or change a hue before a channel reaches an end of the range.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True


class Options(StrictModel):
    """Options of `random_brightness`.

    Args:
        max_fraction: largest shift either way, as a fraction of the range 0 to 255.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, two fifths of the range."""
    return Options(max_fraction=0.4 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer."""
    from keras_cv import layers

    strength = options.max_fraction
    return layers.RandomBrightness((-strength, strength), value_range=(0, 255), **kwargs)
