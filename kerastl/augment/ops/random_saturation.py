"""Make colours stronger or paler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le

NEEDS_COLOUR = True


@dataclass(frozen=True)
class Options:
    """Options of `random_saturation`.

    Args:
        max_fraction: 0.3 multiplies the saturation (of HSV) by 0.7 to 1.3, paler a little more often.
        apply_probability: share of the pictures that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer."""
    from keras_cv import layers

    strength = options.max_fraction
    # keras-cv multiplies the saturation by x / (1 - x); x stays below 2/3, as at 1 grey pixels become NaN.
    bounds = ((1 - strength) / (2 - strength), (1 + strength) / (2 + strength))
    return layers.RandomSaturation(bounds, **kwargs)
