"""Saturation and hue in one conversion: there and back once, however many operations stand together."""

from __future__ import annotations

import tensorflow as tf

SMALLEST_CHROMA = 1e-9
OWN_HUES = (0.0, 2.0, 4.0)
"""Sextants at which red, green and blue are pure."""


def to_hsv(
    images: tf.Tensor, factors: tf.Tensor, sextants: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return value, chroma and hue of each pixel, its picture's saturation multiplied and its hue turned.

    With `from_hsv`, equal to converting to HSV, changing saturation and hue there, and converting back. Value is the largest channel; the chroma is saturation times value, the distance to the smallest, so that
    neither has to be divided by the value and black needs no exception. Which channel is the largest is asked with
    >=, never with ==: a compiler may compute a number twice with different rounding.

    Args:
        images: `[batch, height, width, 3]` float32, not negative.
        factors: `[batch]` float32, at least 0; the saturation stops at 1.
        sextants: `[batch]` float32, turn of the hue in sixths of the circle of colours. Computed outside of what XLA
            compiles: multiplied inside, the last digit may depend on the size of the batch.

    Returns:
        Three `[batch, height, width]` float32; the hue in sextants, 0 to 6.

    Reference:
        Smith 1978, doi 10.1145/800248.807361; the way back as in Foley & van Dam, without branches.
    """
    red, green, blue = tf.unstack(images, axis=-1)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    is_red = (red >= green) & (red >= blue)
    is_green = green >= blue
    apart = tf.where(is_red, green - blue, tf.where(is_green, blue - red, red - green))
    sector = tf.where(is_red, 0.0, tf.where(is_green, 2.0, 4.0))
    hue = apart / tf.maximum(chroma, SMALLEST_CHROMA) + sector + sextants[:, None, None]
    hue = hue - 6.0 * tf.floor(hue * (1.0 / 6.0))
    return value, tf.minimum(chroma * factors[:, None, None], value), hue


def from_hsv(value: tf.Tensor, chroma: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
    """Return the pictures, `[batch, height, width, 3]` float32, of what `to_hsv` returned.

    Each pixel's largest channel stays as large, and a grey pixel as it was. A channel holds the value within a sextant of its own hue, and the value less the chroma from two sextants on.
    """
    distance = tf.abs(hue[..., None] - tf.constant(OWN_HUES))
    distance = tf.minimum(distance, 6.0 - distance)
    short = tf.clip_by_value(distance - 1.0, 0.0, 1.0)
    return value[..., None] - chroma[..., None] * short


def apply_matrices(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Mix the channels of each picture by a matrix, and clip to [0, 255].

    Args:
        images: `[batch, height, width, 3]` float32.
        matrices: `[batch, 3, 3]` float32; row i makes channel i.
    """
    channels = tf.unstack(images, axis=-1)
    rows = tf.unstack(matrices[:, :, :, None, None], axis=1)
    mixed = [sum(row[:, place] * channel for place, channel in enumerate(channels)) for row in rows]
    return tf.clip_by_value(tf.stack(mixed, axis=-1), 0.0, 255.0)
