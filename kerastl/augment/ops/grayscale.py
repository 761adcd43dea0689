"""Take the colour away; three equal channels are left.

Never: change a grey pixel, or how bright a pixel is; change the number of channels.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

NEEDS_COLOR = True
COMPILES = True


class Options(StrictModel):
    """Options of `grayscale`.

    Args:
        apply_probability: share of the images that become grey, 0 to 1.
    """

    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.apply_probability == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, nothing, to 1, every image grey."""
    return Options(apply_probability=strength)


def build_layer(options: Options, **kwargs: Any) -> Any:  # noqa: ARG001 - there is nothing to choose
    """Return keras-cv's layer with weights that sum to 1."""
    from kerastl.augment.layers.color_layers import Grayscale

    return Grayscale(output_channels=3, **kwargs)
