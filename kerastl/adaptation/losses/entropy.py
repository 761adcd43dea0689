"""How sure predictions are, each and together."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def entropy(logits: Any) -> tf.Tensor:
    """Return the entropy of each prediction: `[batch]` float32 in nats, 0 to log(classes).

    Args:
        logits: `[batch, classes]` float32.

    Reference:
        Wang et al. 2021, arXiv:2006.10726, section 3 (TENT, the entropy objective).
    """
    logs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return -tf.reduce_sum(tf.exp(logs) * logs, -1)


def diversity_loss(logits: Any) -> tf.Tensor:
    """Return minus the entropy of the mean prediction: scalar float32 in nats, -log(classes) to 0.

    It is lowest where all classes are predicted equally often, whatever their share among the pictures.

    Args:
        logits: `[batch, classes]` float32.

    Reference:
        Liang et al. 2020, arXiv:2002.08546, equation 3 (SHOT).
    """
    mean = tf.reduce_mean(tf.nn.softmax(tf.cast(logits, tf.float32)), 0)
    return tf.reduce_sum(tf.math.xlogy(mean, mean))
