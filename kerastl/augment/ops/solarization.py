"""Turn every level from a threshold on into its negative: a level v becomes 255 - v.

Never: leave [0, 255], or change a level below the lowest threshold.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

COMPILES = True
HIGHEST_THRESHOLD = 255


class Options(StrictModel):
    """Options of `solarization`.

    Args:
        min_threshold: lowest threshold, in pixel levels, 0 to 255; each image's is uniform from there to 255.
            255 changes nothing; at 0 some images become whole negatives.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    min_threshold: Annotated[float, Ge(0), Le(HIGHEST_THRESHOLD)]
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.min_threshold == HIGHEST_THRESHOLD


def at_strength(strength: float) -> Options:
    """Return options from 0, nothing, to 1, thresholds from 0 on, as in RandAugment (Cubuk et al. 2019, arXiv:1909.13719)."""
    return Options(min_threshold=HIGHEST_THRESHOLD * (1.0 - strength))


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return keras-cv's layer with a threshold; without one it inverts everything."""
    from keras_cv import layers

    thresholds = (options.min_threshold, HIGHEST_THRESHOLD)
    # Its addition shifts every pixel before the threshold, which is brightness, an operation of its own.
    return layers.Solarization(
        value_range=(0, 255), addition_factor=0.0, threshold_factor=thresholds, **kwargs
    )
