"""Zoom in and out about the center; the aspect ratio is kept."""

from typing import Annotated, Any

from annotated_types import Ge, Lt

from kerastl.augment.operation_options import Extreme, FillMode, range_ends
from kerastl.options import Fraction, StrictModel


class Options(StrictModel):
    """Options of `random_zoom`.

    Args:
        max_fraction: 0.2 shows 0.8 to 1.2 times the width of the image; below 1.
        fill_mode: How pixels outside the image are filled; `constant` is black.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Annotated[float, Ge(0), Lt(1)]
    fill_mode: FillMode = "reflect"
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (0.5 to 1.5 times the width)."""
    return Options(max_fraction=0.5 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    fraction = options.max_fraction
    return range_ends(f"width shown x {1 - fraction:g}", f"width shown x {1 + fraction:g}")


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the keras-cv layer."""
    from keras_cv import layers

    return layers.RandomZoom(options.max_fraction, fill_mode=options.fill_mode, **kwargs)


def maps(params: Any, size: tuple[int, int]) -> Any:
    """Return the affine maps for sampled parameters and (height, width) in pixels, `[batch, 6]`."""
    from kerastl.augment import geometry

    return geometry.zoom(params["height_zooms"][:, 0], params["width_zooms"][:, 0], size)
