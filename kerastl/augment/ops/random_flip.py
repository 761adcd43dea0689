"""Mirror the image, each way with probability one half.

Never: blur or move anything: a mirrored image holds the same bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True
RATE = 0.5
MODES = {"horizontal": "horizontal", "vertical": "vertical", "both": "horizontal_and_vertical"}


class Options(StrictModel):
    """Options of `random_flip`.

    Args:
        direction: `horizontal` swaps left and right, `vertical` top and bottom, `both` does either.
        apply_probability: share of the images that may be mirrored, 0 to 1.
    """

    direction: Literal["horizontal", "vertical", "both"] = "horizontal"
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:  # noqa: ARG001 - every operation is asked
    """Tell whether these options change nothing."""
    return False


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, every image tossed for."""
    return Options(apply_probability=strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer."""
    from keras_cv import layers

    return layers.RandomFlip(MODES[options.direction], rate=RATE, **kwargs)


def maps(params: Any, size_px: int) -> Any:
    """Return the affine maps of what was drawn: `[batch, 6]` float32."""
    from kerastl.augment import geometry

    # keras-cv's rule; it draws 0 for a direction that is not asked for.
    left_right, top_bottom = (params[key][:, 0] > RATE for key in ("flip_horizontals", "flip_verticals"))
    return geometry.mirror(left_right, top_bottom, size_px)
