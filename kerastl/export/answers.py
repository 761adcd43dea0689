"""What every endpoint answers with: named outputs, made of logits inside the graph."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from kerastl.evaluation.trained_model import AS_LEARNT, SLACK, Answering

Answers = dict[str, tf.Tensor]

MOST_TOP = 5
"""Classes in `top_classes`, at most."""


def answers_from_logits(
    logits: tf.Tensor, class_names: Sequence[str], answering: Answering = AS_LEARNT
) -> Answers:
    """Return the outputs for `[n, classes]` logits of any float type.

    - `probabilities`: `[n, classes]` float32, rows that sum to 1;
    - `predicted`: `[n]` string, the class that is answered;
    - `class_names`: `[n, classes]` string, the same row n times. One row would do, but the row format of TF
      Serving's REST interface asks every output for the batch dimension of the others and refuses the
      whole answer otherwise. No output's name ends in `_bytes`: TF Serving would send it as base64;
    - `top_classes`, `top_scores`: `[n, up to 5]`, the most probable classes, best first, and their probabilities.
    """
    # Half floats would lose digits here, and TF Serving's REST interface cannot send them.
    wide = tf.ensure_shape(tf.cast(logits, tf.float64), [None, len(class_names)])
    answered = answered_probabilities(wide, answering)
    probabilities = tf.cast(answered, tf.float32)
    names = tf.constant(list(class_names), tf.string)
    top = tf.math.top_k(probabilities, k=min(MOST_TOP, len(class_names)))
    return {
        "probabilities": probabilities,
        "predicted": tf.gather(names, _predicted(wide, probabilities, class_names, answering)),
        "class_names": tf.tile(names[None], [tf.shape(probabilities)[0], 1]),
        "top_classes": tf.gather(names, top.indices),
        "top_scores": top.values,
    }


def answered_probabilities(logits: tf.Tensor, answering: Answering) -> tf.Tensor:
    """Return `[n, classes]` probabilities at the temperature and for the prevalence, in the float type of the logits."""
    if answering.temperature is not None:
        logits = logits * (1.0 / answering.temperature)
    found = tf.nn.softmax(logits)
    if answering.prevalence is not None:
        learnt, served = answering.prevalence.learnt, answering.prevalence.served
        ratios = [after / before for before, after in zip(learnt, served, strict=True)]
        weighed = found * tf.constant(ratios, found.dtype)
        found = weighed / tf.reduce_sum(weighed, axis=-1, keepdims=True)
    return found


def _predicted(
    logits: tf.Tensor, probabilities: tf.Tensor, class_names: Sequence[str], answering: Answering
) -> tf.Tensor:
    """Return `[n]` int64, the place of the class that is answered."""
    threshold = answering.threshold
    if threshold is None:
        return tf.argmax(probabilities, axis=-1)
    positive = list(class_names).index(threshold.positive)
    called = tf.nn.softmax(logits)[:, positive] >= threshold.at - SLACK
    is_positive = tf.constant([place == positive for place in range(len(class_names))])
    others = tf.argmax(tf.where(is_positive, -1.0, probabilities), axis=-1)
    return tf.where(called, tf.constant(positive, tf.int64), others)
