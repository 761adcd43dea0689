"""Make colours paler by mixing in a grey copy of the image.

Never: leave [0, 255], change a grey pixel, or change how bright a pixel is.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

NEEDS_COLOR = True
COMPILES = True


class Options(StrictModel):
    """Options of `random_color_degeneration`.

    Args:
        max_fraction: largest share of grey, 0 to 1; each image's is uniform from 0. At 1 no colour is left.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, nothing, to 1, any share of grey up to no colour at all."""
    return Options(max_fraction=strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return keras-cv's layer with a grey copy that is not darker than the image."""
    from kerastl.augment.layers.color_layers import RandomColorDegeneration

    return RandomColorDegeneration((0.0, options.max_fraction), **kwargs)
