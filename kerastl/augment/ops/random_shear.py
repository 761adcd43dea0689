"""Slant the image about its middle, along both axes.

Never: change an area, or move the middle; show black corners, unless `fill_mode` asks for them.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.augment.nested_options import FillMode
from kerastl.options import StrictModel


class Options(StrictModel):
    """Options of `random_shear`.

    Args:
        max_fraction: largest slope either way: 0.2 slides rows that lie 100 px apart by up to 20 px against each other,
            and columns likewise and independently.
        fill_mode: what is shown outside of the image; `constant` is black.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Le(1)]
    fill_mode: FillMode = "reflect"
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, slopes of 0.4 or 22 degrees."""
    return Options(max_fraction=0.4 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer. keras-cv's own shears about the top left corner."""
    from kerastl.augment.layers.geometry_layers import RandomShear

    return RandomShear(options.max_fraction, maps, fill_mode=options.fill_mode, **kwargs)


def maps(params: Any, size_px: int) -> Any:
    """Return the affine maps of what was drawn: `[batch, 6]` float32."""
    from kerastl.augment import geometry

    return geometry.shear(params["slopes_x"], params["slopes_y"], size_px)
