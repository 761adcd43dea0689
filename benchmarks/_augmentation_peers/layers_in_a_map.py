"""Layers one after the other in a parallel map over batches, as Keras and keras-cv document them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from bursts import BATCH_SIZE, Begin


def stream_of(pictures: np.ndarray, chain: Sequence[Any]) -> Begin:
    """Return a function that begins an endless stream of float32 batches."""

    def augment(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        for layer in chain:
            images = layer(images, training=True)
        return images

    batches = tf.data.Dataset.from_tensor_slices(pictures).repeat().batch(BATCH_SIZE, True)
    batches = batches.map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE).__iter__
