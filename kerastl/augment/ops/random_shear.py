"""Shear images about their center along both axes."""

from typing import Any

from kerastl.augment.operation_options import Extreme, FillMode, range_ends
from kerastl.options import Fraction, StrictModel


class Options(StrictModel):
    """Options of `random_shear`.

    Args:
        max_fraction: Maximum slope in either direction, in pixels per pixel, drawn independently for each
            axis.
        fill_mode: How pixels outside the image are filled; `constant` is black.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction
    fill_mode: FillMode = "reflect"
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (slopes of up to 0.4, or 22 degrees)."""
    return Options(max_fraction=0.4 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return range_ends(f"slopes -{options.max_fraction:g}", f"slopes +{options.max_fraction:g}")


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv shears about the top left corner."""
    from kerastl.augment.layers.geometry_layers import RandomShear

    return RandomShear(options, maps, **kwargs)


def maps(params: Any, size: tuple[int, int]) -> Any:
    """Return the affine maps for sampled parameters and (height, width) in pixels, `[batch, 6]`."""
    from kerastl.augment import geometry

    return geometry.shear(params["slopes_x"], params["slopes_y"], size)
