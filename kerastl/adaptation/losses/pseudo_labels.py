"""Learning from the network's own sure answers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def pseudo_label_loss(
    logits: Any, *, teacher: Any = None, threshold: float = 0.95
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the cross-entropy against the classes that a prediction is sure of.

    Args:
        logits: `[batch, classes]` float32, of what learns.
        teacher: `[batch, classes]` float32 logits that the classes are read off, without gradient, e.g. of a weaker view of the
            same pictures; None: `logits`.
        threshold: pictures whose most probable class has less are left out, 0 to 1.

    Returns:
        Scalar float32 in nats: the sum over the pictures that are sure enough, divided by the whole batch; and the share of the pictures
        that are, scalar float32.

    Reference:
        Sohn et al. 2020, arXiv:2001.07685, equation 4.
    """
    logits = tf.cast(logits, tf.float32)
    shares = tf.stop_gradient(
        tf.nn.softmax(tf.cast(logits if teacher is None else teacher, tf.float32))
    )
    sure = tf.cast(tf.reduce_max(shares, -1) >= threshold, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.argmax(shares, -1), logits)
    return tf.reduce_mean(sure * losses), tf.reduce_mean(sure)
