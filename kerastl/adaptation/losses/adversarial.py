"""Learning against a classifier that tells the domains apart."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def reverse_gradient(values: Any, strength: Any = 1.0) -> tf.Tensor:
    """Return `values` as they are; their gradient is multiplied by `-strength` on the way back.

    Args:
        values: float32 of any shape.
        strength: scalar; 0 lets no gradient pass.

    Reference:
        Ganin et al. 2016, arXiv:1505.07818, section 4.2 (gradient reversal layer).
    """
    strength = tf.cast(strength, tf.float32)

    @tf.custom_gradient
    def reversed_on_the_way_back(inputs: tf.Tensor) -> Any:
        return tf.identity(inputs), lambda upstream: -strength * upstream

    return reversed_on_the_way_back(tf.convert_to_tensor(values))


def reversal_strength(progress: Any, steepness: float = 10.0) -> tf.Tensor:
    """Return how hard features are learnt against the domain classifier: 0 at first, while it knows nothing, then near 1.

    Args:
        progress: 0 at the first step to 1 at the end.
        steepness: of the rise; 10 in the paper.

    Returns:
        `2 / (1 + exp(-steepness * progress)) - 1`, float32.

    Reference:
        Ganin et al. 2016, arXiv:1505.07818, section 5.2 (lambda_p, gamma = 10).
    """
    return 2.0 / (1.0 + tf.exp(-steepness * tf.cast(progress, tf.float32))) - 1.0


def domain_loss(
    source_logits: Any, target_logits: Any, source_weights: Any = None, target_weights: Any = None
) -> tf.Tensor:
    """Return the cross-entropy of a domain classifier, the mean over the source and that over the target added up.

    Args:
        source_logits, target_logits: `[batch]` or `[batch, 1]` float32, positive where it takes a picture for one of the source;
            the batches may differ in size.
        source_weights, target_weights: `[batch]` float32, not negative, of each picture; only their ratios count. None: all 1.

    Returns:
        Scalar float32, in nats: `2 log 2` where nothing is known.

    Reference:
        Ganin et al. 2016, arXiv:1505.07818, equation 9.
    """
    # log(1 + exp(-z)) is the cross-entropy of the source's label, log(1 + exp(z)) that of the target's.
    source = tf.math.softplus(-tf.reshape(tf.cast(source_logits, tf.float32), [-1]))
    target = tf.math.softplus(tf.reshape(tf.cast(target_logits, tf.float32), [-1]))
    return _domain_mean(source, source_weights) + _domain_mean(target, target_weights)


def _domain_mean(values: tf.Tensor, weights: Any) -> tf.Tensor:
    if weights is None:
        return tf.reduce_mean(values)
    weights = tf.cast(weights, tf.float32)
    return tf.math.divide_no_nan(
        tf.reduce_sum(weights * values), tf.stop_gradient(tf.reduce_sum(weights))
    )
