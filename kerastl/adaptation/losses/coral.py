"""The distance between the covariances of two sets of features."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def coral_loss(source: Any, target: Any) -> tf.Tensor:
    """Distance between the covariances of two sets of features.

    Args:
        source, target: `[batch, features]` float32; the batches may differ in size.

    Returns:
        Scalar float32, 0 where both covariances agree: `|C_source - C_target|^2 / (4 d^2)`, the norm being Frobenius's and d
        the number of features. 0 also where one batch is a single picture, of which there is no covariance.

    Reference:
        Sun & Saenko 2016, arXiv:1607.01719, equations 1 to 3.
    """
    source, target = (tf.cast(one, tf.float32) for one in (source, target))
    gap = covariance(source) - covariance(target)
    num_features = tf.cast(tf.shape(source)[1], tf.float32)
    smaller = tf.minimum(tf.shape(source)[0], tf.shape(target)[0])
    return tf.cast(smaller > 1, tf.float32) * tf.reduce_sum(gap**2) / (4.0 * num_features**2)


def covariance(features: tf.Tensor) -> tf.Tensor:
    """Return the unbiased covariance of the columns, `[features, features]` float32; 0 for a single row."""
    count = tf.cast(tf.shape(features)[0], tf.float32)
    centred = features - tf.reduce_mean(features, 0)
    return tf.math.divide_no_nan(tf.matmul(centred, centred, transpose_a=True), count - 1.0)
