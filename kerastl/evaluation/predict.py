"""Run a model once over pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from kerastl.console import track
from kerastl.data import ImageDataset, Record
from kerastl.errors import RequestError, RunFailed
from kerastl.evaluation.predictions import Array, Predictions
from kerastl.models import for_inference


def predict(model: keras.Model, source: ImageDataset) -> Predictions:
    """Return the model's answers for every picture of a source.

    Args:
        model: `[b, h, w, 3]` float32 in [0, 255] to logits `[b, classes]`; run in inference mode.
        source: not augmented, its last batch kept; its order does not matter.

    Returns:
        Rows in the order of `source.records`.

    Raises:
        RequestError: the model has another number of classes than the source.
        RunFailed: a picture can no longer be read, or the model has no number for it; the text names it.
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
    folded = for_inference(model)
    # The one graph that there is: TensorFlow takes a function a call for one that is traced at each call, and warns.
    forward = tf.function(lambda images: folded(images, training=False), autograph=False)
    compiled: Callable[[tf.Tensor], tf.Tensor] = forward.get_concrete_function(
        tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)
    )
    return compiled


def _subgroups(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """Return the text of each picture by column, in the order in which the records name the columns."""
    told = [dict(record.subgroups) for record in records]
    names = dict.fromkeys(name for one in told for name in one)
    return {name: tuple(one.get(name, "") for one in told) for name in names}


def _logits(model: keras.Model, source: ImageDataset) -> Array:
    """Return `[n, classes]` float32 by index, NaN where the source gave no picture."""
    forward = inference_function(model)
    logits = np.full((source.num_examples, len(source.class_names)), np.nan, np.float32)
    try:
        for images, _, indices in track(
            source.indexed_batches(0), "predicting", source.steps_per_epoch
        ):
            logits[indices.numpy()] = tf.cast(forward(images), tf.float32).numpy()
    except tf.errors.OpError as error:
        raise source.explain(error) from error
    return logits


def _check_numbers(logits: Array, paths: list[str]) -> None:
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise RunFailed(
            f"The model has no number for {len(broken)} of {len(paths)} pictures, the first is "
            f"{paths[broken[0]]}. Its weights may hold NaN, or the pictures were never handed to it."
        )
