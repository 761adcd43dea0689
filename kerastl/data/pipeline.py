"""What the pipelines of all epochs have in common."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from kerastl.data.decode import Window
from kerastl.data.reasons import reason_of
from kerastl.data.records import Record
from kerastl.errors import RunFailed

as_it_is = tf.autograph.experimental.do_not_convert
"""For functions of TensorFlow's operations alone: rewriting their source takes longer than tracing them."""


def ready(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return a dataset that keeps its order, works ahead, and is divided by nobody else."""
    options = tf.data.Options()
    options.deterministic = True
    # The loop deals batches to its workers itself; a second division would lose pictures.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def nothing(image_size_px: int) -> tf.data.Dataset:
    """Return one batch of no picture: images `[0, size, size, 3]` float32 and indices `[0]` int64."""
    images = np.zeros((0, image_size_px, image_size_px, 3), np.float32)
    return tf.data.Dataset.from_tensors((images, np.zeros(0, np.int64)))


def explained(
    error: Exception, records: Iterable[Record], *, window: Window | None, max_pixels: int
) -> RunFailed:
    """Return the error to raise when reading failed: it names the first file that is broken.

    Args:
        error: what iterating raised; told where every file can be read.
        records: of all pictures.
        window, max_pixels: as they are decoded.
    """
    for record in records:
        reason = reason_of(record.file, window=window, max_pixels=max_pixels)
        if reason:
            return RunFailed(
                f"{record.path} can no longer be read: {reason}. It could when the run began. "
                f"Its file: {record.file}"
            )
    return RunFailed(f"The pictures can be read, but the pipeline failed: {error}")
