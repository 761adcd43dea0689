"""The grey levels of one picture in another."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from kerastl.adaptation.styles.grey import greyed

STEPS = 4
"""Steps that a grey level is divided into: more levels than a 10-bit picture has."""
NUM_LEVELS = 255 * STEPS + 1


def histogram_style(images: Any, styles: Any) -> tf.Tensor:
    """Give pictures the cumulative histogram of others, channel by channel.

    Levels are rounded to quarters of a grey level (8-bit pictures are unchanged by that). A level that is reached by the share q of the
    picture's pixels, itself included, becomes the level that is reached by the share q of the style's, interpolated between
    the levels that the style has. Pixels of one level stay pixels of one level: ties are not broken, so a picture with few levels gets
    near the style's histogram, not all the way.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255], of one size, of up to 4096 x 4096 pixels.

    Returns:
        `[batch, h, w, 3]` float32 in [0, 255]; a grey picture (three equal channels) stays grey.

    Reference:
        Gonzalez & Woods 2008, Digital Image Processing, section 3.3.2 (histogram specification).
    """
    images, styles, _ = greyed(images, styles)
    levels, shape = _levels(images), tf.shape(images)
    table = _table(_cumulative(levels), _cumulative(_levels(styles)))
    matched = tf.gather(table, levels, batch_dims=1)
    return tf.transpose(tf.reshape(matched, [shape[0], 3, shape[1], shape[2]]), [0, 2, 3, 1])


def _levels(images: tf.Tensor) -> tf.Tensor:
    """Return the quarter levels of each channel: `[batch * 3, pixels]` int32."""
    pixels = tf.shape(images)[1] * tf.shape(images)[2]
    rows = tf.reshape(tf.transpose(images, [0, 3, 1, 2]), [-1, pixels])
    return tf.clip_by_value(tf.cast(tf.round(rows * STEPS), tf.int32), 0, NUM_LEVELS - 1)


def _cumulative(levels: tf.Tensor) -> tf.Tensor:
    """Return how many pixels reach each level: `[rows, levels]` int32."""
    rows = tf.shape(levels)[0]
    at = levels + tf.range(rows)[:, None] * NUM_LEVELS
    ones = tf.ones([tf.size(at)], tf.int32)
    counts = tf.math.unsorted_segment_sum(ones, tf.reshape(at, [-1]), rows * NUM_LEVELS)
    return tf.cumsum(tf.reshape(counts, [rows, NUM_LEVELS]), axis=1)


def _table(reached: tf.Tensor, style: tf.Tensor) -> tf.Tensor:
    """Return what becomes of each level: `[rows, levels]` float32, from two cumulative histograms of equal sums.

    Whole numbers of pixels are compared, not shares of them, so that no rounding moves a level.
    """
    upper = tf.searchsorted(style, reached, side="left")
    # The style's level below `upper`, reached by `before` pixels; none where `upper` is its lowest.
    before = tf.gather(style, tf.maximum(upper - 1, 0), batch_dims=1)
    before = tf.where(upper > 0, before, 0)
    lower = tf.where(before > 0, tf.searchsorted(style, before, side="left"), upper)
    there = tf.gather(style, upper, batch_dims=1)
    part = tf.math.divide_no_nan(
        tf.cast(reached - before, tf.float32), tf.cast(there - before, tf.float32)
    )
    start, end = (tf.cast(one, tf.float32) for one in (lower, upper))
    return (start + part * (end - start)) / STEPS
