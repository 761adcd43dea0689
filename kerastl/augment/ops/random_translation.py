"""Shift the image up or down, left or right.

Never: change an image's scale; show black borders, unless `fill_mode` asks for them.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.augment.nested_options import FillMode
from kerastl.options import StrictModel


class Options(StrictModel):
    """Options of `random_translation`.

    Args:
        max_fraction: largest shift each way, as a fraction of the height and of the width.
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
    """Return options from 0, the identity, to 1, three tenths of the side."""
    return Options(max_fraction=0.3 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer."""
    from keras_cv import layers

    strength = options.max_fraction
    return layers.RandomTranslation(strength, strength, fill_mode=options.fill_mode, **kwargs)


def maps(params: Any, size_px: int) -> Any:
    """Return the affine maps of what was drawn: `[batch, 6]` float32."""
    from kerastl.augment import geometry

    down, right = params["height_translations"][:, 0], params["width_translations"][:, 0]
    return geometry.translation(down * size_px, right * size_px)
