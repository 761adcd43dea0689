"""Cut a window of random area and aspect ratio out of the image, and enlarge it to the image's size.

Known as "random resized crop" or "Inception crop" (Szegedy et al. 2014, arXiv:1409.4842, section 6).

Never: cut a window of another area than was drawn, favour wide windows over tall ones, or show anything outside of
the window.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from kerastl.options import StrictModel

ASPECT_RATIO = 4 / 3
"""The largest of Szegedy et al."""
SMALLEST_AREA = 0.25
"""Half of the side. Szegedy et al. go down to 0.08, for a thousand classes learnt from a million images."""


class Options(StrictModel):
    """Options of `random_crop_and_resize`.

    Args:
        min_area_fraction: smallest area of the window as a share of the image's, above 0, to 1; areas are uniform
            from there to the whole image. 1 changes nothing.
        max_aspect_ratio: largest ratio of the window's longer side to its shorter one, 1 to 10. The logarithm of width
            over height is uniform, so far as a window of that area fits into the image.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    min_area_fraction: Annotated[float, Gt(0), Le(1)]
    max_aspect_ratio: Annotated[float, Ge(1), Le(10)] = ASPECT_RATIO
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing: only the image itself has its whole area."""
    return options.min_area_fraction == 1


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1, a quarter of the area and an aspect ratio of 4 / 3."""
    return Options(
        min_area_fraction=1.0 - (1.0 - SMALLEST_AREA) * strength, max_aspect_ratio=ASPECT_RATIO**strength
    )


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer. keras-cv's own clips windows, and ties the aspect ratio to the area."""
    from kerastl.augment.layers.geometry_layers import RandomCropAndResize

    return RandomCropAndResize(options.min_area_fraction, options.max_aspect_ratio, maps, **kwargs)


def maps(params: Any, size_px: int) -> Any:
    """Return the affine maps of what was drawn: `[batch, 6]` float32."""
    import tensorflow as tf

    from kerastl.augment import geometry

    length = size_px - 1.0
    areas, aspects = params["areas"], params["aspects"]
    heights = tf.minimum(geometry.batch_invariant(tf.sqrt, areas / aspects) * length, length)
    widths = tf.minimum(geometry.batch_invariant(tf.sqrt, areas * aspects) * length, length)
    tops = params["tops"] * (length - heights)
    lefts = params["lefts"] * (length - widths)
    return geometry.window(tops, lefts, heights, widths, size_px)
