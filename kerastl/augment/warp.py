"""Resampling of a batch by one affine map per image, with operations that XLA compiles.

TensorFlow's `ImageProjectiveTransformV3` gives the same result but does not compile with XLA.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from kerastl.augment.operation import LARGEST_PIXEL


def reflect(position: tf.Tensor, size: int) -> tf.Tensor:
    """Fold positions outside the image back by reflection: d c b a | a b c d | d c b a.

    Args:
        position: float32, in pixels.
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


def warp(images: tf.Tensor, maps: tf.Tensor, *, fill_mode: str) -> tf.Tensor:
    """Resample each image by its map, with bilinear interpolation.

    Args:
        images: `[batch, height, width, channels]` float32 in [0, 255].
        maps: `[batch, 6]` float32, see `kerastl.augment.geometry`. The map (1, 0, 0, 0, 1, 0) changes no
            byte.
        fill_mode: `reflect`, `wrap`, `nearest`, or `constant` (black), for positions outside the image.

    Returns:
        Images of the same shape and type.
    """
    positions = source_coordinates(maps, *images.shape[1:3], fill_mode=fill_mode)
    return resample(images, *neighbors(*positions, fill_mode=fill_mode), fill_mode=fill_mode)


def source_coordinates(
    maps: tf.Tensor, height: int, width: int, *, fill_mode: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the source position of each pixel of the result.

    This function, `neighbors` and `resample` are compiled separately. In one function XLA would compute a
    position several times with different rounding: 19 for the neighbor, 18.999998 for the distance from it.

    Args:
        maps: `[batch, 6]` float32.
        height, width: Size of the images.
        fill_mode: As in `warp`.

    Returns:
        (x, y) in the image, or in the padded image for `constant`, each `[batch, height, width]` float32.
    """
    x, y = _source_positions(maps, height, width)
    if fill_mode == "constant":
        return nearest(x + PADDING, width + 2 * PADDING), nearest(y + PADDING, height + 2 * PADDING)
    return FOLD_FUNCTIONS[fill_mode](x, width), FOLD_FUNCTIONS[fill_mode](y, height)


def neighbors(x: tf.Tensor, y: tf.Tensor, *, fill_mode: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the four source pixels around each position, and their distances.

    Args:
        x, y: From `source_coordinates` with the same fill mode.
        fill_mode: As in `warp`.

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
    return tf.minimum(_interpolate(upper, lower, down), LARGEST_PIXEL)


def _source_positions(maps: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the source position (x, y) of each pixel of the result, each `[batch, height, width]` float32."""
    x = tf.range(width, dtype=tf.float32)[None, None, :]
    y = tf.range(height, dtype=tf.float32)[None, :, None]
    a, b, c, d, e, f = tf.unstack(maps[:, :, None, None], axis=1)
    return a * x + b * y + c, d * x + e * y + f


def _interpolate(first: tf.Tensor, second: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Interpolate linearly; weights 0 and 1 give exactly the first and the second value."""
    return first * (1.0 - weight) + second * weight
