"""How much a batch of predictions mixes up pairs of classes."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from kerastl.adaptation.losses.entropy import entropy


def class_confusion_loss(logits: Any, *, temperature: float = 2.5) -> tf.Tensor:
    """Return the minimum class confusion loss of a batch.

    With probabilities `P = softmax(logits / temperature)`, `[batch, classes]`, and a weight `w = 1 + exp(-H)` of each picture, made
    to sum to the batch's size and held constant for the gradient, the confusion of two classes is `C = P^T diag(w) P`, its rows
    are made to sum to 1, and what lies off its diagonal is averaged over the classes.

    Args:
        logits: `[batch, classes]` float32; a batch should hold more pictures than there are classes.
        temperature: above 0.

    Returns:
        Scalar float32, 0 (each picture is one class alone) to below 1.

    Reference:
        Jin et al. 2020, arXiv:1912.03699, section 3 (probability rescaling, uncertainty reweighting, category normalization).
    """
    logits = tf.cast(logits, tf.float32) / temperature
    probabilities = tf.nn.softmax(logits)
    weights = tf.stop_gradient(1.0 + tf.exp(-entropy(logits)))
    weights = weights / tf.reduce_mean(weights)
    confusion = tf.matmul(probabilities, weights[:, None] * probabilities, transpose_a=True)
    confusion = tf.math.divide_no_nan(confusion, tf.reduce_sum(confusion, -1, keepdims=True))
    num_classes = tf.cast(tf.shape(logits)[1], tf.float32)
    return (tf.reduce_sum(confusion) - tf.linalg.trace(confusion)) / num_classes
