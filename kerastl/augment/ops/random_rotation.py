"""Rotate images about their center.

Pixels outside the image are reflected by default, because black corners would reveal the rotation.
"""

from typing import Any

from kerastl.augment.operation_options import Degrees, Extreme, FillMode, range_ends
from kerastl.options import Fraction, StrictModel


class Options(StrictModel):
    """Options of `random_rotation`.

    Args:
        max_deg: Maximum rotation in either direction, in degrees, 0 to 180.
        fill_mode: How pixels outside the image are filled; `constant` is black.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_deg: Degrees
    fill_mode: FillMode = "reflect"
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (rotations of up to 45 degrees)."""
    return Options(max_deg=45.0 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return range_ends(f"-{options.max_deg:g} deg (clockwise)", f"+{options.max_deg:g} deg")


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the keras-cv layer with sines and cosines that do not depend on the batch."""
    from kerastl.augment.layers.geometry_layers import RandomRotation

    return RandomRotation(options.max_deg / 360.0, fill_mode=options.fill_mode, **kwargs)


def maps(params: Any, size: tuple[int, int]) -> Any:
    """Return the affine maps for sampled parameters and (height, width) in pixels, `[batch, 6]`."""
    from kerastl.augment import geometry

    return geometry.rotation(params["angles"], size)
