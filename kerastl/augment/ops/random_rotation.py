"""Turn the image about its middle.

Never: change an image's scale; show black corners, which would tell that it was turned, unless `fill_mode` asks for them.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.augment.nested_options import FillMode
from kerastl.options import StrictModel


class Options(StrictModel):
    """Options of `random_rotation`.

    Args:
        max_deg: largest turn either way, in degrees, 0 to 180.
        fill_mode: what is shown outside of the image; `constant` is black.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_deg: Annotated[float, Ge(0), Le(180)]
    fill_mode: FillMode = "reflect"
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_deg == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, an eighth of a turn either way."""
    return Options(max_deg=45.0 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer."""
    from kerastl.augment.layers.geometry_layers import RandomRotation

    return RandomRotation(options.max_deg / 360.0, fill_mode=options.fill_mode, **kwargs)


def maps(params: Any, size_px: int) -> Any:
    """Return the affine maps of what was drawn: `[batch, 6]` float32."""
    from kerastl.augment import geometry

    return geometry.rotation(params["angles"], size_px)
