"""Turn the circle of colours.

Never: change a grey pixel, or leave [0, 255].
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from kerastl.options import StrictModel

NEEDS_COLOR = True


class Options(StrictModel):
    """Options of `random_hue`.

    Args:
        max_deg: largest turn either way, in degrees of the colour circle, 0 to 180.
        model: `hsv` as in keras-cv, or `linear`: one matrix for all pixels, quicker, and another augmentation.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_deg: Annotated[float, Ge(0), Le(180)]
    model: Literal["hsv", "linear"] = "hsv"
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_deg == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, a sixth of the circle either way."""
    return Options(max_deg=60.0 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer, or its linear likeness."""
    from keras_cv import layers

    from kerastl.augment.layers.color_layers import LinearHue

    if options.model == "linear":
        return LinearHue(options.max_deg / 180.0, value_range=(0, 255), **kwargs)
    return layers.RandomHue(options.max_deg / 180.0, value_range=(0, 255), **kwargs)


def hsv_change(params: Any) -> tuple[Any, Any]:
    """Return (factor of the saturation, turn of the hue in turns), `[batch]` or None."""
    return None, params
