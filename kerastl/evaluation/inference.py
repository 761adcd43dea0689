"""Run a model once over images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.console import track
from kerastl.data import ImageDataset, Record
from kerastl.errors import RequestError, RunFailed
from kerastl.evaluation.predictions import Array, Predictions
from kerastl.models import fold_for_inference


def predict(model: keras.Model, source: ImageDataset) -> Predictions:
    """Return the model's answers for every image of a source.

    Args:
        model: `[b, h, w, 3]` float32 in [0, 255] to logits `[b, classes]`; run in inference mode.
        source: not augmented, its last batch kept; its order does not matter.

    Returns:
        Rows in the order of `source.records`.

    Raises:
        RequestError: the model has another number of classes than the source.
        RunFailed: an image can no longer be read, or the model has no number for it; the text names it.
    """
    num_classes = len(source.class_names)
    if model.output_shape[-1] != num_classes:
        raise RequestError(
            f"The model tells {model.output_shape[-1]} classes apart, the data has {num_classes}: "
            f"{', '.join(source.class_names[:10])}."
        )
    logits = _logits(model, source)
    records = source.records
    _check_numbers(logits, [record.path for record in records])
    return Predictions(
        tuple(record.path for record in records),
        np.asarray(source.labels, np.int32),
        logits,
        tuple(source.class_names),
        tuple(record.split or "" for record in records),
        tuple(record.group or "" for record in records),
        tuple(record.domain or "" for record in records),
        _subgroups(records),
    )


def inference_function(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a model in inference mode as one compiled function of `[b, h, w, 3]` float32 images; its weights are copied."""
    folded = fold_for_inference(model)
    # The one graph that there is: TensorFlow takes a function a call for one that is traced at each call, and warns.
    forward = tf.function(lambda images: folded(images, training=False), autograph=False)
    compiled: Callable[[tf.Tensor], tf.Tensor] = forward.get_concrete_function(
        tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)
    )
    return compiled


def _subgroups(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """Return the text of each image by column, in the order in which the records name the columns."""
    told = [dict(record.subgroups) for record in records]
    names = dict.fromkeys(name for one in told for name in one)
    return {name: tuple(one.get(name, "") for one in told) for name in names}


def _logits(model: keras.Model, source: ImageDataset) -> Array:
    """Return `[n, classes]` float32 by index, NaN where the source gave no image."""
    forward = inference_function(model)
    logits = np.full((source.num_examples, len(source.class_names)), np.nan, np.float32)
    try:
        for images, _, indices in track(source.indexed_batches(0), "predicting", source.steps_per_epoch):
            logits[indices.numpy()] = tf.cast(forward(images), tf.float32).numpy()
    except tf.errors.OpError as error:
        raise source.explain(error) from error
    return logits


def _check_numbers(logits: Array, paths: list[str]) -> None:
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise RunFailed(
            f"The model has no number for {len(broken)} of {len(paths)} images, the first is "
            f"{paths[broken[0]]}. Its weights may hold NaN, or the images were never handed to it."
        )


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


def compare_passes(
    model: keras.Model, decodings: Sequence[Array], paths: Sequence[str], *, batch_size: int
) -> tuple[dict[str, Any], Array]:
    """Predict two decodings of the same images and compare pixels and logits to the byte.

    Args:
        model: as in `predict`.
        decodings: two arrays, as `decode_twice` returns them.
        paths: of the images.
        batch_size: images per call of the model.

    Returns:
        A report `{"images", "differ", "largest_difference", "sha256", "faults"}` and the logits of the first pass,
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
        "images": len(paths),
        "differ": len(differ),
        "largest_difference": float(np.abs(first - second).max()) if differ else 0.0,
        "sha256": [hashlib.sha256(rows.tobytes()).hexdigest()[:16] for rows in (first, second)],
        "faults": faults,
    }
    return report, first


def _batched_logits(forward: Callable[[tf.Tensor], tf.Tensor], images: Array, batch_size: int) -> Array:
    starts = range(0, len(images), batch_size)
    batches = [forward(tf.constant(images[start : start + batch_size])) for start in starts]
    return np.concatenate([tf.cast(batch, tf.float32).numpy() for batch in batches])


def _rows_that_differ(first: Array, second: Array) -> list[int]:
    pairs = zip(first, second, strict=True)
    return [index for index, (row, other) in enumerate(pairs) if row.tobytes() != other.tobytes()]
