"""Preprocessing layers in a parallel `map` over batches, as the documentation of Keras and keras-cv shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from bursts import BATCH_SIZE, StreamFactory


def make_layer_stream(images: np.ndarray, chain: Sequence[Any]) -> StreamFactory:
    """Return a function that starts an endless stream of float32 batches."""

    def augment(batch: tf.Tensor) -> tf.Tensor:
        batch = tf.cast(batch, tf.float32)
        for layer in chain:
            batch = layer(batch, training=True)
        return batch

    batches = tf.data.Dataset.from_tensor_slices(images).repeat().batch(BATCH_SIZE, True)
    batches = batches.map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE).__iter__
