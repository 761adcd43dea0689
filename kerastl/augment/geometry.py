"""Affine maps from a pixel of the result to a position in the source image, and their products.

A map is a row (a, b, c, d, e, f): the result pixel (x, y) shows the source position (a x + b y + c, d x + e y
+ f), as in TensorFlow's `ImageProjectiveTransformV3`. Pixel centers are the integers 0 to size - 1; rotation,
zoom and shear keep the center (size - 1) / 2.

Sums and products are written out, so that the bytes of a row do not depend on the other rows. Maps are
float64 until the warp, because TensorFlow rewrites sums of products differently in a training step and in a
pipeline; rounding to float32 removes the difference.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

VECTOR_SIZE = 16
"""Number of float32 values in the widest vector unit (AVX-512)."""
WINDOW_SCALE = 1.0 - 2.0**-22
"""Shrinks windows by more than the rounding error of float32, and by less than is visible."""


def batch_invariant(function: Callable[[tf.Tensor], tf.Tensor], numbers: tf.Tensor) -> tf.Tensor:
    """Apply an elementwise function so that each result does not depend on the rest of the batch.

    TensorFlow computes sines, logarithms and the like with different rounding for full vectors and for the
    remainder of a batch. Here every number fills whole vectors.

    Args:
        function: Elementwise function of one tensor; its result has one row per number.
        numbers: `[batch]` float32 or float64.
    """
    return function(tf.repeat(numbers, VECTOR_SIZE))[::VECTOR_SIZE]


def keep_center(a: tf.Tensor, b: tf.Tensor, d: tf.Tensor, e: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return the maps with a given linear part that keep the center.

    Args:
        a, b, d, e: Linear part, each `[batch]`.
        size_px: Side length of the image.

    Returns:
        `[batch, 6]` float64.
    """
    a, b, d, e = (_to_float64(numbers) for numbers in (a, b, d, e))
    center = (size_px - 1) / 2
    c = center * (1.0 - (a + b))
    f = center * (1.0 - (d + e))
    return tf.stack([a, b, c, d, e, f], axis=1)


def rotation(angles: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return maps that rotate the image counterclockwise by `angles`, `[batch]` float32 radians."""
    cosine, sine = (batch_invariant(function, _to_float64(angles)) for function in (tf.cos, tf.sin))
    return keep_center(cosine, -sine, sine, cosine, size_px)


def zoom(heights: tf.Tensor, widths: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return maps that show `heights` times the height and `widths` times the width of the image.

    Args:
        heights, widths: `[batch]` float32, above 0; above 1 zooms out.
        size_px: Side length of the image.
    """
    zero = tf.zeros_like(heights)
    return keep_center(widths, zero, zero, heights, size_px)


def shear(slopes_x: tf.Tensor, slopes_y: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return maps that shear along x, then along y, about the center.

    Args:
        slopes_x: `[batch]` float32, pixels along x per pixel along y.
        slopes_y: `[batch]` float32, pixels along y per pixel along x.
        size_px: Side length of the image.
    """
    slopes_x, slopes_y = _to_float64(slopes_x), _to_float64(slopes_y)
    ones = tf.ones_like(slopes_x)
    # First x, then y: the map of x is applied to the map of y.
    return keep_center(ones + slopes_x * slopes_y, slopes_x, slopes_y, ones, size_px)


def translation(down: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return maps that move the image by `down` and `right` pixels, each `[batch]` float32."""
    down, right = _to_float64(down), _to_float64(right)
    zeros, ones = tf.zeros_like(down), tf.ones_like(down)
    return tf.stack([ones, zeros, -right, zeros, ones, -down], axis=1)


def mirror(left_right: tf.Tensor, top_bottom: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return maps that flip the image where `left_right` or `top_bottom`, `[batch]` bool, is set."""
    a = tf.where(left_right, -1.0, 1.0)
    e = tf.where(top_bottom, -1.0, 1.0)
    return keep_center(a, tf.zeros_like(a), tf.zeros_like(a), e, size_px)


def window(top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return maps that resize a window to the size of the image.

    Corner pixel centers of the window become those of the image, as in TensorFlow's `CropAndResize`: nothing
    outside the window is shown.

    Args:
        top, left: First row and column of the window, `[batch]` float32, in pixels.
        height, width: Distance from the first to the last row or column, `[batch]` float32, at most `size_px
            - 1`.
        size_px: Side length of the image.
    """
    top, left, height, width = (_to_float64(numbers) for numbers in (top, left, height, width))
    length = size_px - 1.0
    # Slightly less than the length, because rounding could leave the image and wrap around.
    down, across = (tf.where(side < length, side * (WINDOW_SCALE / length), 1.0) for side in (height, width))
    zero = tf.zeros_like(down)
    return tf.stack([across, zero, left, zero, down, top], axis=1)


def product(first: tf.Tensor, then: tf.Tensor) -> tf.Tensor:
    """Return the map of one operation followed by another, `[batch, 6]` float64.

    Args:
        first, then: `[batch, 6]` float64, in the order in which the operations are applied to the image.
    """
    a, b, c, d, e, f = tf.unstack(first, axis=1)
    g, h, i, j, k, m = tf.unstack(then, axis=1)
    x = (a * g + b * j, a * h + b * k, a * i + b * m + c)
    y = (d * g + e * j, d * h + e * k, d * i + e * m + f)
    return tf.stack([*x, *y], axis=1)


def select_maps(chosen: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """Return the maps where `chosen`, `[batch]` bool, is set, and the identity elsewhere."""
    identity = tf.constant([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]], maps.dtype)
    return tf.where(chosen[:, None], maps, identity)


def _to_float64(numbers: tf.Tensor) -> tf.Tensor:
    return tf.cast(numbers, tf.float64)
