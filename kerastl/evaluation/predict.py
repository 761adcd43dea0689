"""Run a model once over pictures."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from kerastl.data import EpochSource
from kerastl.evaluation.predictions import Predictions
from kerastl.progress import track


def predict(model: keras.Model, source: EpochSource) -> Predictions:
    """Return the model's answers for every picture of a source.

    Args:
        model: `[b, h, w, 3]` float32 in [0, 255] to logits `[b, classes]`; run in inference mode.
        source: not augmented; its order does not matter.

    Returns:
        Rows in the order of `source.records`.

    Raises:
        RunFailed: a picture can no longer be read; the text names it.
    """
    shape = [None, *model.input_shape[1:]]
    forward = tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32)],
    )
    logits = np.zeros((source.num_examples, len(source.class_names)), np.float32)
    try:
        for images, _, indices in track(source.batches(0), "predicting", source.steps_per_epoch):
            logits[indices.numpy()] = forward(images).numpy()
    except tf.errors.OpError as error:
        raise source.explain(error) from error
    records = source.records
    return Predictions(
        tuple(record.path for record in records),
        np.asarray(source.labels, np.int32),
        logits,
        source.class_names,
        tuple(record.split or "" for record in records),
        tuple(record.group or "" for record in records),
        tuple(record.domain or "" for record in records),
    )
