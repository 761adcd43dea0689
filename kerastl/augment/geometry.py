"""Affine maps from a pixel of the result to a position in the source image, their products, and resampling.

A map is a row (a, b, c, d, e, f): the result pixel (x, y) shows the source position (a x + b y + c, d x + e y
+ f), as in TensorFlow's `ImageProjectiveTransformV3`. Pixel centers are the integers 0 to size - 1; rotation,
zoom and shear keep the center (size - 1) / 2.

Sums and products are written out, so that the bytes of a row do not depend on the other rows. Maps are
float64 until the warp, because TensorFlow rewrites sums of products differently in a training step and in a
pipeline; rounding to float32 removes the difference.

Resampling uses operations that XLA compiles; `ImageProjectiveTransformV3` gives the same result but does not
compile.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from kerastl.image_size import Size

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


def keep_center(a: tf.Tensor, b: tf.Tensor, d: tf.Tensor, e: tf.Tensor, size: Size) -> tf.Tensor:
    """Return the maps with a given linear part that keep the center.

    Args:
        a, b, d, e: Linear part, each `[batch]`.
        size: (height, width) of the image.

    Returns:
        `[batch, 6]` float64.
    """
    a, b, d, e = (_to_float64(numbers) for numbers in (a, b, d, e))
    center_y, center_x = ((side - 1) / 2 for side in size)
    c = center_x * (1.0 - a) - center_y * b
    f = center_y * (1.0 - e) - center_x * d
    return tf.stack([a, b, c, d, e, f], axis=1)


def rotation(angles: tf.Tensor, size: Size) -> tf.Tensor:
    """Return maps that rotate the image counterclockwise by `angles`, `[batch]` float32 radians."""
    cosine, sine = (batch_invariant(function, _to_float64(angles)) for function in (tf.cos, tf.sin))
    return keep_center(cosine, -sine, sine, cosine, size)


def zoom(heights: tf.Tensor, widths: tf.Tensor, size: Size) -> tf.Tensor:
    """Return maps that show `heights` times the height and `widths` times the width of the image.

    Args:
        heights, widths: `[batch]` float32, above 0; above 1 zooms out.
        size: (height, width) of the image.
    """
    zero = tf.zeros_like(heights)
    return keep_center(widths, zero, zero, heights, size)


def shear(slopes_x: tf.Tensor, slopes_y: tf.Tensor, size: Size) -> tf.Tensor:
    """Return maps that shear along x, then along y, about the center.

    Args:
        slopes_x: `[batch]` float32, pixels along x per pixel along y.
        slopes_y: `[batch]` float32, pixels along y per pixel along x.
        size: (height, width) of the image.
    """
    slopes_x, slopes_y = _to_float64(slopes_x), _to_float64(slopes_y)
    ones = tf.ones_like(slopes_x)
    # First x, then y: the map of x is applied to the map of y.
    return keep_center(ones + slopes_x * slopes_y, slopes_x, slopes_y, ones, size)


def translation(down: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return maps that move the image by `down` and `right` pixels, each `[batch]` float32."""
    down, right = _to_float64(down), _to_float64(right)
    zeros, ones = tf.zeros_like(down), tf.ones_like(down)
    return tf.stack([ones, zeros, -right, zeros, ones, -down], axis=1)


def flip(left_right: tf.Tensor, top_bottom: tf.Tensor, size: Size) -> tf.Tensor:
    """Return maps that flip the image where `left_right` or `top_bottom`, `[batch]` bool, is set."""
    a = tf.where(left_right, -1.0, 1.0)
    e = tf.where(top_bottom, -1.0, 1.0)
    return keep_center(a, tf.zeros_like(a), tf.zeros_like(a), e, size)


def crop(top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size: Size) -> tf.Tensor:
    """Return maps that resize a window to the size of the image.

    Corner pixel centers of the window become those of the image, as in TensorFlow's `CropAndResize`: nothing
    outside the window is shown.

    Args:
        top, left: First row and column of the window, `[batch]` float32, in pixels.
        height, width: Distance from the first to the last row or column, `[batch]` float32, at most that of the
            image.
        size: (height, width) of the image.
    """
    top, left, height, width = (_to_float64(numbers) for numbers in (top, left, height, width))
    # Slightly less than the length, because rounding could leave the image and wrap around.
    down, across = (
        tf.where(side < length - 1.0, side * (WINDOW_SCALE / (length - 1.0)), 1.0)
        for side, length in zip((height, width), size, strict=True)
    )
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


def _to_float64(numbers: tf.Tensor) -> tf.Tensor:
    return tf.cast(numbers, tf.float64)


def reflect(position: tf.Tensor, size: int) -> tf.Tensor:
    """Fold positions outside the image back by reflection: d c b a | a b c d | d c b a.

    Args:
        position: Position in pixels, float32.
        size: Size of the image along this axis.

    Returns:
        float32 in [0, size - 1].
    """
    period = 2.0 * size
    inside = position - period * tf.floor(position * (1.0 / period))
    return tf.clip_by_value(tf.minimum(inside, period - 1.0 - inside), 0.0, size - 1.0)


def wrap(position: tf.Tensor, size: int) -> tf.Tensor:
    """Fold positions outside the image back by repetition: a b c d | a b c d | a b c d; as `reflect`."""
    # As in TensorFlow, which counts periods of `size` in steps of `size - 1`.
    below = position + size * (tf.floor(-position / (size - 1.0)) + 1.0)
    above = position - size * tf.floor(position / (size - 1.0))
    inside = tf.where(position < 0.0, below, tf.where(position > size - 1.0, above, position))
    return tf.clip_by_value(inside, 0.0, size - 1.0)


def nearest(position: tf.Tensor, size: int) -> tf.Tensor:
    """Clip positions outside the image to the edge: a a a a | a b c d | d d d d; as `reflect`."""
    return tf.clip_by_value(position, 0.0, size - 1.0)


PADDING = 1
"""Width of the black border for `constant`, in pixels: the reach of bilinear interpolation."""
FOLD_FUNCTIONS: dict[str, Callable[[tf.Tensor, int], tf.Tensor]] = {
    "reflect": reflect,
    "wrap": wrap,
    "nearest": nearest,
}


def source_coordinates(
    maps: tf.Tensor, height: int, width: int, *, fill_mode: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the source position of each pixel of the result.

    This function, `neighbors` and `resample` are compiled separately. In one function XLA would compute a
    position several times with different rounding: 19 for the neighbor, 18.999998 for the distance from it.

    Args:
        maps: `[batch, 6]` float32. The map (1, 0, 0, 0, 1, 0) changes no byte.
        height, width: Size of the images.
        fill_mode: `reflect`, `wrap`, `nearest`, or `constant` (black), for positions outside the image.

    Returns:
        (x, y) in the image, or in the padded image for `constant`, each `[batch, height, width]` float32.
    """
    columns = tf.range(width, dtype=tf.float32)[None, None, :]
    rows = tf.range(height, dtype=tf.float32)[None, :, None]
    a, b, c, d, e, f = tf.unstack(maps[:, :, None, None], axis=1)
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    if fill_mode == "constant":
        return nearest(x + PADDING, width + 2 * PADDING), nearest(y + PADDING, height + 2 * PADDING)
    return FOLD_FUNCTIONS[fill_mode](x, width), FOLD_FUNCTIONS[fill_mode](y, height)


def neighbors(x: tf.Tensor, y: tf.Tensor, *, fill_mode: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the four source pixels around each position, and their distances.

    Args:
        x, y: From `source_coordinates` with the same fill mode.
        fill_mode: As in `source_coordinates`.

    Returns:
        `corner`, the index of the upper left pixel among all pixels of the batch, `[batch, height, width]`
        int32; `across` and `down`, the distances to the right of it and below it, float32 in [0, 1].
    """
    height, width = x.shape[1:]
    if fill_mode == "constant":
        height, width = height + 2 * PADDING, width + 2 * PADDING
    # At the far edge, the right and lower neighbors have all the weight.
    left, top = tf.minimum(tf.floor(x), width - 2.0), tf.minimum(tf.floor(y), height - 2.0)
    image = tf.range(tf.shape(x)[0])[:, None, None] * (height * width)
    corner = image + tf.cast(top, tf.int32) * width + tf.cast(left, tf.int32)
    return corner, x - left, y - top


def resample(
    images: tf.Tensor, corner: tf.Tensor, across: tf.Tensor, down: tf.Tensor, *, fill_mode: str
) -> tf.Tensor:
    """Interpolate the images, given the result of `neighbors` for the same fill mode."""
    if fill_mode == "constant":
        images = tf.pad(images, [[0, 0], [PADDING, PADDING], [PADDING, PADDING], [0, 0]])
    width, channels = images.shape[2:]
    pixels = tf.reshape(images, [-1, channels])
    across, down = across[..., None], down[..., None]
    upper = _interpolate(tf.gather(pixels, corner), tf.gather(pixels, corner + 1), across)
    below = corner + width
    lower = _interpolate(tf.gather(pixels, below), tf.gather(pixels, below + 1), across)
    # Rounding may exceed 255.
    return tf.minimum(_interpolate(upper, lower, down), 255.0)


def _interpolate(first: tf.Tensor, second: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Interpolate linearly; weights 0 and 1 give exactly the first and the second value."""
    return first * (1.0 - weight) + second * weight
