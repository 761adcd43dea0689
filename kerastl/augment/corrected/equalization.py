"""Histogram equalization, batched and without an operation that XLA refuses.

keras-cv 0.9.0 takes the histogram with HistogramFixedWidth, which XLA does not compile. Its step is the number of
pixels less the *smallest* bin that holds any, where Pillow's `ImageOps.equalize`, after which it is written, takes
off the *brightest* one: levels come out too dark where these differ. It cuts decimals off, so that a
picture of one level 100.9 becomes 100. Here the result is Pillow's on 8-bit pictures, level for level.
"""

from __future__ import annotations

import tensorflow as tf

from kerastl.augment.corrected.blended import Blended

LEVELS = 256


class SteadyEqualization(Blended):
    """Spread the levels of each channel so that about equally many pixels have each.

    On whole levels this is Pillow's table. Between two levels the table is read by linear interpolation, so that
    pictures of more than 8 bits keep their fine steps; their histogram is taken on rounded levels.
    """

    def changed(self, images: tf.Tensor) -> tf.Tensor:
        """Return the equalized pictures; a channel that Pillow leaves alone stays as it is, byte for byte."""
        pixels = tf.clip_by_value(images, 0.0, LEVELS - 1.0)
        size = tf.shape(images)
        planes = size[0] * size[3]
        # The channels of all pictures share one long histogram and one long table, 256 places each.
        first = LEVELS * tf.reshape(tf.range(planes), [size[0], 1, 1, size[3]])
        place = first + tf.cast(tf.round(pixels), tf.int32)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(place), place, LEVELS * planes)
        table = tf.reshape(_tables(tf.reshape(counts, [planes, LEVELS])), [-1])
        below = tf.floor(pixels)
        level = tf.cast(below, tf.int32)
        lower = tf.gather(table, first + level)
        upper = tf.gather(table, first + tf.minimum(level + 1, LEVELS - 1))
        return lower + (pixels - below) * (upper - lower)


def _tables(histograms: tf.Tensor) -> tf.Tensor:
    """Return the new level of each level.

    Pillow's: step = (pixels - pixels of the brightest level) // 255, new level = (pixels darker than
    this level + step // 2) // step. Where step is 0 (one level, or too few pixels) each level stays.

    Args:
        histograms: `[channels of all pictures, 256]` int32, pixels of each level.

    Returns:
        `[channels of all pictures, 256]` float32, whole numbers in [0, 255].
    """
    up_to = tf.cumsum(histograms, axis=-1)
    pixels = up_to[:, -1:]
    # Pixels darker than the brightest level that any pixel has: the largest count below the total.
    darker = tf.reduce_max(tf.where(up_to < pixels, up_to, 0), axis=-1, keepdims=True)
    step = darker // (LEVELS - 1)
    divisor = tf.maximum(step, 1)
    spread_out = (up_to - histograms + divisor // 2) // divisor
    table = tf.where(step > 0, tf.minimum(spread_out, LEVELS - 1), tf.range(LEVELS))
    return tf.cast(table, tf.float32)
