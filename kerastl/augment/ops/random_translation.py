"""Translate images along both axes."""

from typing import Any

from kerastl.augment.operation_options import Extreme, FillMode, percent, range_ends
from kerastl.options import Fraction, StrictModel


class Options(StrictModel):
    """Options of `random_translation`.

    Args:
        max_fraction: Maximum shift in each direction, as a fraction of the height or width.
        fill_mode: How pixels outside the image are filled; `constant` is black.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    max_fraction: Fraction
    fill_mode: FillMode = "reflect"
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (shifts of up to 30% of the side)."""
    return Options(max_fraction=0.3 * strength)


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    shift = percent(options.max_fraction)
    return range_ends(f"{shift} up, {shift} left", f"{shift} down, {shift} right")


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the keras-cv layer."""
    from keras_cv import layers

    fraction = options.max_fraction
    return layers.RandomTranslation(fraction, fraction, fill_mode=options.fill_mode, **kwargs)


def maps(params: Any, size: tuple[int, int]) -> Any:
    """Return the affine maps for sampled parameters and (height, width) in pixels, `[batch, 6]`."""
    from kerastl.augment import geometry

    down, right = params["height_translations"][:, 0], params["width_translations"][:, 0]
    return geometry.translation(down * size[0], right * size[1])
