"""Cut a window of fixed side out of the image, at a random place, and enlarge it to the image's size.

The window begins and ends with whole pixels: its first row becomes the first row of the result, its last row the last.

Never: change the size or the aspect ratio of the image, skip a row, or show anything outside of the window.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le, Lt

from kerastl.options import StrictModel


class Options(StrictModel):
    """Options of `random_crop`.

    Args:
        max_fraction: 0.1 cuts a window of 0.9 of the side, rounded to whole pixels and at least 2: up to a tenth is
            lost at any one edge, and a tenth in all at opposite edges; below 1.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Lt(1)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.max_fraction == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, windows of half of the side."""
    return Options(max_fraction=0.5 * strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer. keras-cv's own skips rows, and changes the size."""
    from kerastl.augment.layers.geometry_layers import RandomCrop

    return RandomCrop(options.max_fraction, maps, **kwargs)


def maps(params: Any, size_px: int) -> Any:
    """Return the affine maps of what was drawn: `[batch, 6]` float32."""
    from kerastl.augment import geometry

    lengths = params["sides"] - 1.0
    return geometry.window(params["tops"], params["lefts"], lengths, lengths, size_px)
