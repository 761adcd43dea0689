"""Crop a window of random area and aspect ratio and resize it to the size of the image.

Known as random resized crop or Inception crop (Szegedy et al. 2014, arXiv:1409.4842, section 6). The window
always has the sampled area and lies inside the image.
"""

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from kerastl.augment.operation_options import Extreme, percent
from kerastl.options import Fraction, StrictModel

MAX_ASPECT_RATIO = 4 / 3
"""Maximum of Szegedy et al."""
MIN_AREA_FRACTION = 0.25
"""Half the side. Szegedy et al. go down to 0.08, for 1,000 classes and a million images."""


class Options(StrictModel):
    """Options of `random_crop_and_resize`.

    Args:
        min_area_fraction: Minimum area as a fraction of the image, above 0 and at most 1. The area is uniform up to 1;
            1 is the identity.
        max_aspect_ratio: Maximum factor by which the aspect ratio of the window differs from that of the image, 1
            to 10. The logarithm of the factor is uniform over the range that fits into the image.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    min_area_fraction: Annotated[float, Gt(0), Le(1)]
    max_aspect_ratio: Annotated[float, Ge(1), Le(10)] = MAX_ASPECT_RATIO
    apply_probability: Fraction = 1.0


def is_identity(options: Options) -> bool:
    """Return whether the options leave every image unchanged."""
    return options.min_area_fraction == 1


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (a quarter of the area, ratios up to 4 / 3)."""
    return Options(
        min_area_fraction=1.0 - (1.0 - MIN_AREA_FRACTION) * strength,
        max_aspect_ratio=MAX_ASPECT_RATIO**strength,
    )


def extremes(options: Options) -> list[Extreme]:
    """Return the strongest settings for the preview."""
    area = f"{percent(options.min_area_fraction)} of the area"
    # The area is drawn first, then the aspect ratio (tall to wide), then the position.
    return [
        Extreme(f"{area}, tallest", (0.0, 0.0, 0.5, 0.5)),
        Extreme(f"{area}, widest", (0.0, 1.0, 0.5, 0.5)),
    ]


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv clips windows and ties the aspect ratio to the area."""
    from kerastl.augment.layers.geometry_layers import RandomCropAndResize

    return RandomCropAndResize(options, maps, **kwargs)


def maps(params: Any, size: tuple[int, int]) -> Any:
    """Return the affine maps for sampled parameters and (height, width) in pixels, `[batch, 6]`."""
    import tensorflow as tf

    from kerastl.augment import geometry

    length_down, length_across = (side - 1.0 for side in size)
    areas, aspects = params["areas"], params["aspects"]
    heights = tf.minimum(geometry.batch_invariant(tf.sqrt, areas / aspects) * length_down, length_down)
    widths = tf.minimum(geometry.batch_invariant(tf.sqrt, areas * aspects) * length_across, length_across)
    tops = params["tops"] * (length_down - heights)
    lefts = params["lefts"] * (length_across - widths)
    return geometry.crop(tops, lefts, heights, widths, size)
