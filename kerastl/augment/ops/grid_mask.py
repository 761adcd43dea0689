"""Mask a turned grid of squares (Chen et al. 2020, arXiv:2001.04086).

From square to square it is 0.3 to 0.5 of the image's shorter side. A square's side is a part of that distance, uniform
from 0 to `max_fraction`. Each pixel is masked with probability (that part) ** 2: `max_fraction ** 2 / 3` of the
area on average.

Never: change a pixel between the squares.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True
MIDDLE_GREY = 127.5
STRONGEST_FRACTION = 0.7
"""Masks 16 % of the area on average and about half at most."""


class Options(StrictModel):
    """Options of `grid_mask`.

    Args:
        max_fraction: largest side of the squares, as a fraction of the distance from square to square, 0 to 1.
        max_deg: largest turn of the grid either way, in degrees. The grid repeats itself every 90 degrees, so that 45
            gives every direction.
        fill_mode: `constant` fills with one level, `gaussian_noise` with normal noise of its own in each pixel and
            channel, of standard deviation 42.5 levels, held in 0 to 255.
        fill_value: level, or mean of the noise, 0 to 255. The middle grey is the default: most backbones map it
            to about 0.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)]
    max_deg: Annotated[float, Ge(0), Le(180)] = 45.0
    fill_mode: Literal["constant", "gaussian_noise"] = "constant"
    fill_value: Annotated[float, Ge(0), Le(255)] = MIDDLE_GREY
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing. A grid of squares without a size does not, however it is turned."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, the strongest that make sense on photographs."""
    return Options(max_fraction=STRONGEST_FRACTION * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer. keras-cv's own turns grids image by image, blurs them, and fails on noise."""
    from kerastl.augment.layers.masks_layers import GridMask

    return GridMask(
        options.max_fraction,
        max_deg=options.max_deg,
        fill_mode=options.fill_mode,
        fill_value=options.fill_value,
        **kwargs,
    )
