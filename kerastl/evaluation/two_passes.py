"""Predict the same images twice: a model that is a function of its input returns the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset
from kerastl.evaluation.predict import inference_function
from kerastl.evaluation.predictions import Array


def decode_twice(source: ImageDataset) -> tuple[Array, Array]:
    """Decode the images of a source twice, from the files.

    Args:
        source: without a cache; its order and augmentation do not matter.

    Returns:
        Two arrays `[n, size, size, 3]` float32 in [0, 255].

    Raises:
        RunFailed: an image can no longer be read.
    """
    count = source.num_examples
    options = tf.data.Options()
    # For a few images, rewriting the pipeline takes longer than running it.
    options.experimental_optimization.apply_default_optimizations = False
    try:
        # In one pipeline: TensorFlow compiles the decoder anew for each iterator.
        dataset = source.at(np.tile(np.arange(count), 2), source.batch_size).with_options(options)
        images = np.concatenate([batch.numpy() for batch, _ in dataset])
    except tf.errors.OpError as error:
        raise source.explain(error) from error
    return images[:count], images[count:]


def two_passes(
    model: keras.Model, decodings: Sequence[Array], paths: Sequence[str], *, batch_size: int
) -> tuple[dict[str, Any], Array]:
    """Predict two decodings of the same images and compare pixels and logits to the byte.

    Args:
        model: as in `predict`.
        decodings: two arrays, as `decode_twice` returns them.
        paths: of the images.
        batch_size: images per call of the model.

    Returns:
        A report `{"pictures", "differ", "largest_difference", "sha256", "faults"}` and the logits of the first pass,
        `[n, classes]` float32. `differ` is the number of images whose logits differ in any bit, `sha256` that of the
        logits of each pass (16 hex digits); `faults` is empty if the passes are equal.
    """
    forward = inference_function(model)
    first, second = (_batched_logits(forward, images, batch_size) for images in decodings)
    differ = _rows_that_differ(first, second)
    faults = []
    decoded = _rows_that_differ(*decodings)
    if decoded:
        faults.append(
            f"{len(decoded)} of {len(paths)} images were decoded to other pixels the second time; the first is "
            f"{paths[decoded[0]]}."
        )
    if differ:
        faults.append(
            f"{len(differ)} of {len(paths)} images got other logits the second time, by up to "
            f"{np.abs(first - second).max():.2g}; the first is {paths[differ[0]]}. A layer is random or keeps a "
            "state in inference mode."
        )
    report = {
        "pictures": len(paths),
        "differ": len(differ),
        "largest_difference": float(np.abs(first - second).max()) if differ else 0.0,
        "sha256": [hashlib.sha256(rows.tobytes()).hexdigest()[:16] for rows in (first, second)],
        "faults": faults,
    }
    return report, first


def _batched_logits(
    forward: Callable[[tf.Tensor], tf.Tensor], images: Array, batch_size: int
) -> Array:
    starts = range(0, len(images), batch_size)
    batches = [forward(tf.constant(images[start : start + batch_size])) for start in starts]
    return np.concatenate([tf.cast(batch, tf.float32).numpy() for batch in batches])


def _rows_that_differ(first: Array, second: Array) -> list[int]:
    pairs = zip(first, second, strict=True)
    return [index for index, (row, other) in enumerate(pairs) if row.tobytes() != other.tobytes()]
