"""Turn the picture about its middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le


@dataclass(frozen=True)
class Options:
    """Options of `random_rotation`.

    Args:
        max_deg: largest turn either way, in degrees, 0 to 180.
        apply_probability: share of the pictures that are changed, 0 to 1.
    """

    max_deg: Annotated[float, Ge(0), Le(180)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_deg == 0


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer. The border is filled by reflection: a black corner would tell that it was turned."""
    from kerastl.augment.rotation import SteadyRotation

    return SteadyRotation(options.max_deg / 360.0, fill_mode="reflect", **kwargs)
