"""keras-cv's contrast, made to give the same bytes whatever stands beside a picture in the batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras_cv import layers

STEPS_PER_LEVEL = 2048
"""Sums of whole numbers do not depend on their order. A row of 4,096 pixels of 255 still fits int32."""


def steady_means(images: tf.Tensor) -> tf.Tensor:
    """Return the mean of each channel of each picture.

    A sum of floats depends on its order, and a compiler chooses the order by the size of the batch. Here pixels are
    counted in steps of 1 / 2048 of a level: the mean is off by at most a quarter of a thousandth of a level.

    Args:
        images: `[batch, height, width, channels]` float32 in [0, 255], at most 4,096 pixels wide.

    Returns:
        `[batch, 1, 1, channels]` float32.
    """
    height, width = images.shape[1:3]
    steps = tf.cast(images * STEPS_PER_LEVEL + 0.5, tf.int32)
    rows = tf.cast(tf.reduce_sum(steps, axis=2, keepdims=True), tf.int64)
    sums = tf.cast(tf.reduce_sum(rows, axis=1, keepdims=True), tf.float32)
    return sums * (1.0 / (STEPS_PER_LEVEL * height * width))


class SteadyContrast(layers.RandomContrast):
    """`keras_cv.layers.RandomContrast` with means that do not depend on the batch."""

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the changed pictures, clipped to [0, 255]."""
        means = steady_means(images)
        return tf.clip_by_value((images - means) * transformations + means, *self.value_range)
