"""Zoom in and out about the middle, the aspect ratio kept.

Never: stretch one side more than the other; show black borders, unless `fill_mode` asks for them.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le, Lt

from kerastl.augment.nested_options import FillMode
from kerastl.options import StrictModel


class Options(StrictModel):
    """Options of `random_zoom`.

    Args:
        max_fraction: 0.2 shows 0.8 to 1.2 times the width of the image; below 1.
        fill_mode: what is shown outside of the image; `constant` is black.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Lt(1)]
    fill_mode: FillMode = "reflect"
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, half or one and a half times the width."""
    return Options(max_fraction=0.5 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer."""
    from keras_cv import layers

    return layers.RandomZoom(options.max_fraction, fill_mode=options.fill_mode, **kwargs)


def maps(params: Any, size_px: int) -> Any:
    """Return the affine maps of what was drawn: `[batch, 6]` float32."""
    from kerastl.augment import geometry

    return geometry.zoom(params["height_zooms"][:, 0], params["width_zooms"][:, 0], size_px)
