"""Turn the circle of colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le

NEEDS_COLOUR = True


@dataclass(frozen=True)
class Options:
    """Options of `random_hue`.

    Args:
        max_deg: largest turn either way, in degrees of the colour circle, 0 to 180.
        apply_probability: share of the pictures that are changed, 0 to 1.
    """

    max_deg: Annotated[float, Ge(0), Le(180)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_deg == 0


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer."""
    from keras_cv import layers

    return layers.RandomHue(options.max_deg / 180.0, value_range=(0, 255), **kwargs)
