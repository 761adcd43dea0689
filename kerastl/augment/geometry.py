"""Geometry as numbers: affine maps from a pixel of the result to a place in the image, and their products.

A map is a row (a, b, c, d, e, f): the pixel (x, y) of the result shows the image's place (a x + b y + c, d x + e y + f),
as in TensorFlow's `ImageProjectiveTransformV3`. Pixel centers are whole numbers, from 0 to size - 1; everything turns,
grows and shears about the middle, (size - 1) / 2.

The sums and products are written out, number by number, so that a row's bytes do not depend on the rows beside it. They
are float64 until the warp: TensorFlow rewrites sums of products in a training step otherwise than in a pipeline, and what
that changes is lost when the result is rounded to float32.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

WIDEST_VECTOR = 16
"""float32 numbers in the widest vector unit (AVX-512)."""
INSIDE = 1.0 - 2.0**-22
"""What is left of the length of a window: more than rounding to float32 can add to it, and too much to be seen."""


def batch_invariant(function: Callable[[tf.Tensor], tf.Tensor], numbers: tf.Tensor) -> tf.Tensor:
    """Return a function of each number, by the same bytes whatever stands beside it in the batch.

    TensorFlow computes sines, logarithms and the like by two formulas: one for whole vectors of numbers, another for
    what is left at the end of a batch, and they differ in the last digit. Here every number fills whole vectors, so
    that all take the first formula.

    Args:
        function: of one tensor, number by number; its rows go with the numbers.
        numbers: `[batch]` float32 or float64.
    """
    return function(tf.repeat(numbers, WIDEST_VECTOR))[::WIDEST_VECTOR]


def about_middle(a: tf.Tensor, b: tf.Tensor, d: tf.Tensor, e: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return the maps that leave the middle where it is.

    Args:
        a, b, d, e: `[batch]` float32, the linear part.
        size_px: side of the image.

    Returns:
        `[batch, 6]` float64.
    """
    a, b, d, e = (_wide(numbers) for numbers in (a, b, d, e))
    middle = (size_px - 1) / 2
    c = middle * (1.0 - (a + b))
    f = middle * (1.0 - (d + e))
    return tf.stack([a, b, c, d, e, f], axis=1)


def rotation(angles: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return maps that turn the image anticlockwise.

    Args:
        angles: `[batch]` float32, radians.
        size_px: side of the image.
    """
    cosine, sine = (batch_invariant(function, _wide(angles)) for function in (tf.cos, tf.sin))
    return about_middle(cosine, -sine, sine, cosine, size_px)


def zoom(heights: tf.Tensor, widths: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return maps that show `heights` times the height and `widths` times the width of the image.

    Args:
        heights, widths: `[batch]` float32, above 0; above 1 zooms out.
        size_px: side of the image.
    """
    zero = tf.zeros_like(heights)
    return about_middle(widths, zero, zero, heights, size_px)


def shear(slopes_x: tf.Tensor, slopes_y: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return maps that slide rows along x, then columns along y, about the middle.

    Args:
        slopes_x: `[batch]` float32, pixels along x for each pixel down.
        slopes_y: `[batch]` float32, pixels along y for each pixel to the right.
        size_px: side of the image.
    """
    slopes_x, slopes_y = _wide(slopes_x), _wide(slopes_y)
    one = tf.ones_like(slopes_x)
    # First x, then y: the place is the map of x applied to the map of y.
    return about_middle(one + slopes_x * slopes_y, slopes_x, slopes_y, one, size_px)


def translation(down: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return maps that move the image.

    Args:
        down, right: `[batch]` float32, in pixels.
    """
    down, right = _wide(down), _wide(right)
    zero, one = tf.zeros_like(down), tf.ones_like(down)
    return tf.stack([one, zero, -right, zero, one, -down], axis=1)


def mirror(left_right: tf.Tensor, top_bottom: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return maps that mirror the image.

    Args:
        left_right, top_bottom: `[batch]` bool.
        size_px: side of the image.
    """
    a = tf.where(left_right, -1.0, 1.0)
    e = tf.where(top_bottom, -1.0, 1.0)
    return about_middle(a, tf.zeros_like(a), tf.zeros_like(a), e, size_px)


def window(top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return maps that enlarge a part of the image to its whole size.

    The centers of the part's outermost pixels become those of the image's, as in TensorFlow's `CropAndResize`: nothing
    outside of the part is seen.

    Args:
        top, left: `[batch]` float32, the part's first row and column, in pixels.
        height, width: `[batch]` float32, from its first row or column to its last, in pixels, at most `size_px - 1`.
        size_px: side of the image.
    """
    top, left, height, width = (_wide(numbers) for numbers in (top, left, height, width))
    length = size_px - 1.0
    # A hair less than the length, or else rounding could step out of the image, and wrap around.
    down, across = (tf.where(side < length, side * (INSIDE / length), 1.0) for side in (height, width))
    zero = tf.zeros_like(down)
    return tf.stack([across, zero, left, zero, down, top], axis=1)


def product(first: tf.Tensor, then: tf.Tensor) -> tf.Tensor:
    """Return the map of one operation followed by another.

    Args:
        first, then: `[batch, 6]` float64, in the order in which they are done to the image.

    Returns:
        `[batch, 6]` float64: the place in the untouched image that the result of both shows.
    """
    a, b, c, d, e, f = tf.unstack(first, axis=1)
    g, h, i, j, k, m = tf.unstack(then, axis=1)
    x = (a * g + b * j, a * h + b * k, a * i + b * m + c)
    y = (d * g + e * j, d * h + e * k, d * i + e * m + f)
    return tf.stack([*x, *y], axis=1)


def select_maps(chosen: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """Return the maps where chosen, elsewhere the map that changes nothing.

    Args:
        chosen: `[batch]` bool.
        maps: `[batch, 6]` float64.
    """
    nothing = tf.constant([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]], maps.dtype)
    return tf.where(chosen[:, None], maps, nothing)


def _wide(numbers: tf.Tensor) -> tf.Tensor:
    return tf.cast(numbers, tf.float64)
