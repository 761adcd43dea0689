"""Invert all levels at or above a random threshold: v becomes 255 - v."""

from typing import Any

from kerastl.augment.operation_options import Extreme, Level
from kerastl.options import Fraction, StrictModel

COMPILES = True
MAX_THRESHOLD = 255


class Options(StrictModel):
    """Options of `solarization`.

    Args:
        min_threshold: Minimum threshold in pixel levels, 0 to 255; uniform up to 255. 255 is the identity.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    min_threshold: Level
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (thresholds from 0, as in RandAugment)."""
    return Options(min_threshold=MAX_THRESHOLD * (1.0 - strength))


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    return [Extreme(f"levels from {options.min_threshold:g} up inverted", rest=0.0)]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the keras-cv layer with a threshold and without its addition, which changes the brightness."""
    from keras_cv import layers

    thresholds = (options.min_threshold, MAX_THRESHOLD)
    return layers.Solarization(
        value_range=(0, 255), addition_factor=0.0, threshold_factor=thresholds, **kwargs
    )
