"""How far a second head can disagree with the first on the target while it agrees on the source."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def margin_disparity_loss(
    source_logits: Any,
    source_second: Any,
    target_logits: Any,
    target_second: Any,
    *,
    margin: float = 4.0,
) -> tf.Tensor:
    """Return what a second head minimises; the network that makes its features maximises it.

    `margin * mean(-log p'_s[y_s]) + mean(-log(1 - p'_t[y_t]))`: p' is the second head's probability, y the class that the first head
    would choose, which passes no gradient.

    Args:
        source_logits, target_logits: `[batch, classes]` float32 of the first head.
        source_second, target_second: likewise of the second.
        margin: factor of the source; the logarithm of it is the margin.

    Returns:
        Scalar float32, at least 0: minus the margin disparity discrepancy of the paper.

    Reference:
        Zhang et al. 2019, arXiv:1904.05801, section 5 (the adversarial algorithm, with the modified cross-entropy on the target).
    """
    agreed = _log_share(source_second, source_logits)
    denied = _log_share(target_second, target_logits)
    # 1 - p by expm1, which has digits left where p is nearly 0; where p is nearly 1, the logarithm stays finite.
    missing = tf.maximum(-tf.math.expm1(denied), 1e-6)
    return -margin * tf.reduce_mean(agreed) - tf.reduce_mean(tf.math.log(missing))


def _log_share(second: Any, first: Any) -> tf.Tensor:
    """Return the logarithm of what the second head gives to the class that the first one chooses: `[batch]`."""
    second = tf.cast(second, tf.float32)
    chosen = tf.one_hot(tf.argmax(first, -1), tf.shape(second)[1])
    return tf.reduce_sum(chosen * tf.nn.log_softmax(second), -1)
