"""Mask one rectangle of the image (DeVries & Taylor 2017, arXiv:1708.04552).

The rectangle lies wholly inside the image. Height and width are uniform from 0 to `max_fraction` of the image's,
independent of each other; the masked share of the area is `max_fraction ** 2 / 4` on average and never above
`max_fraction ** 2`, but for rounding to whole pixels. The border is masked less often than the middle.

Never: lose part of the rectangle at the border; change a pixel outside of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True
MIDDLE_GREY = 127.5
STRONGEST_FRACTION = 0.7
"""Masks 12 % of the area on average, and never the half: what an image shows can still be told."""


class Options(StrictModel):
    """Options of `random_cutout`.

    Args:
        max_fraction: largest height and width of the rectangle, as a fraction of the image's, 0 to 1.
        fill_mode: `constant` fills with one level, `gaussian_noise` with normal noise of its own in each pixel and
            channel, of standard deviation 42.5 levels, held in 0 to 255.
        fill_value: level, or mean of the noise, 0 to 255. The middle grey is the default: most backbones map it
            to about 0.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)]
    fill_mode: Literal["constant", "gaussian_noise"] = "constant"
    fill_value: Annotated[float, Ge(0), Le(255)] = MIDDLE_GREY
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, the strongest that make sense on photographs."""
    return Options(max_fraction=STRONGEST_FRACTION * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer. keras-cv's own loses area at the border and ties width to height."""
    from kerastl.augment.layers.masks_layers import RandomCutout

    return RandomCutout(
        options.max_fraction, fill_mode=options.fill_mode, fill_value=options.fill_value, **kwargs
    )
