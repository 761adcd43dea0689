"""Make colours stronger or paler.

Never: change a hue, the brightest channel of a pixel, or a grey pixel (the linear model keeps greys and luma).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from kerastl.options import StrictModel

NEEDS_COLOR = True
SATURATES = True


class Options(StrictModel):
    """Options of `random_saturation`.

    Args:
        max_fraction: 0.3 multiplies the saturation (of HSV) by 0.7 to 1.3, paler a little more often.
        model: `hsv` as in keras-cv, or `linear`: one matrix for all pixels, quicker, and another augmentation.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)]
    model: Literal["hsv", "linear"] = "hsv"
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, a fifth to nearly twice the saturation."""
    return Options(max_fraction=0.8 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer, or its linear likeness."""
    from keras_cv import layers

    from kerastl.augment.layers.color_layers import LinearSaturation

    strength = options.max_fraction
    # keras-cv multiplies the saturation by x / (1 - x); x stays below 2/3, as at 1 grey pixels become NaN.
    bounds = ((1 - strength) / (2 - strength), (1 + strength) / (2 + strength))
    if options.model == "linear":
        return LinearSaturation(bounds, **kwargs)
    return layers.RandomSaturation(bounds, **kwargs)


def hsv_change(params: Any) -> tuple[Any, Any]:
    """Return (factor of the saturation, turn of the hue in turns), `[batch]` or None."""
    return params / (1.0 - params), None
