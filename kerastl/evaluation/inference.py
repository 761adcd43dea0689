"""Prediction: run a model once over images, and check that it is deterministic."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.console import track
from kerastl.data import Collection, ImageDataset, Images, as_image_dataset, report_unreadable
from kerastl.data.duplicates import names_of_copies
from kerastl.data.records import as_names
from kerastl.errors import Problem, RequestError, RunFailed, raise_problems
from kerastl.evaluation.predictions import Array, Predictions
from kerastl.evaluation.subgroups import subgroup_columns
from kerastl.image_size import Resize, Size
from kerastl.models import check_classifier, fold_for_inference, output_messages, read_signature
from kerastl.options import checked
from kerastl.training import trace_inference


def input_size(model: keras.Model, images: Images) -> Size | None:
    """Return (height, width) of the images that a model takes. None if it takes any size, which a collection does not allow."""
    is_open = isinstance(model, keras.Model) and not getattr(model, "inputs", None)
    return (
        None if is_open and not isinstance(images, Collection) else check_classifier(model).input_shape[1:3]
    )


def match_dataset(
    name: str,
    images: Images,
    model: keras.Model,
    *,
    class_names: Sequence[str] | None = None,
    image_size_px: Size | None,
    resize: Resize | None,
    **options: Any,
) -> tuple[ImageDataset, keras.Model]:
    """Return images as a dataset that matches a model, and the model as `check_classifier` returns it.

    Args:
        name: Name of the argument, for messages.
        images: Images in any form that `as_image_dataset` takes.
        model: Any Keras model that returns logits.
        class_names: Class names in the order of the logits. None uses those of the model or of a collection.
        image_size_px: (height, width) that the images must have. None allows any.
        resize: The resize rule of the training images. None if it is unknown.
        **options: Further options of `as_image_dataset`.

    Raises:
        Problems: The images or an option are invalid, or differ from the model in their size or classes.
        RequestError: The class names are unknown, or the images are resized by another rule than `resize`.
    """
    signature = read_signature(model)
    given = as_names(class_names)
    if isinstance(images, ImageDataset) and given not in (None, images.class_names, [*images.class_names]):
        raise RequestError(
            f"{name}: has the classes {[*images.class_names]}, but class_names is {given}. Remove class_names=, or create the dataset with it."
        )
    if class_names is None and not (isinstance(images, Collection) and images.class_names):
        class_names = signature.get("class_names")
    rule = resize or signature.get("resize", "stretch")
    dataset = as_image_dataset(
        name, images, class_names=class_names, image_size_px=image_size_px, resize=rule, **options
    )
    network = check_classifier(model, class_names=dataset.class_names, image_size_px=dataset.image_size_px)
    if dataset.resize != resize and None not in (dataset.resize, resize):
        raise RequestError(
            f"{name}: is resized with {dataset.resize!r}, but the training images were resized with {resize!r}. "
            f"Use resize={resize!r}."
        )
    return dataset, network


@checked
def predict(model: keras.Model, dataset: Images) -> Predictions:
    """Return the predictions of a model for every image of a dataset.

    Args:
        model: Any Keras model from `[b, h, w, 3]` float32 in [0, 255] to logits `[b, classes]`, or to one logit for the
            second of two classes. It runs in inference mode. The model of a run
            (`kerastl.load_run(path).model`) has an attribute `temperature`, which scales the probabilities.
        dataset: Images without augmentation, including a smaller last batch, in any form that `kerastl.evaluate` takes.
            Images in an array or a `tf.data.Dataset` may be unlabeled: `x`. With `window="auto"`, 16-bit images have the
            window of the model, if it stores one.

    Returns:
        Predictions in the order of the records or of the array. Those of a `tf.data.Dataset` that is shuffled are in the
        order of its first pass.

    Raises:
        Problems: If the model does not return logits, or if its class names or image size differ from those of the
            dataset.
        RunFailed: If an image can no longer be read, or if its logits are not finite. The message names it.

    Example:
    ```python
    predictions = kerastl.evaluation.predict(model, dataset)
    scores = kerastl.evaluation.score(predictions)
    ```
    """
    signature = read_signature(model)
    size = None if isinstance(dataset, ImageDataset) else input_size(model, dataset)
    rule, window = signature.get("resize"), signature.get("window")
    dataset, network = match_dataset("dataset", dataset, model, image_size_px=size, resize=rule)
    if window and dataset.has_auto_window:
        dataset = dataset.with_window(window)
    num_classes = len(dataset.class_names)
    forward = trace_inference(fold_for_inference(network))
    logits = np.full((dataset.num_examples, num_classes), np.nan, np.float32)
    with report_unreadable(dataset):
        for batch, _, indices in track(dataset.indexed_batches(0), "predicting", dataset.steps_per_epoch):
            if indices.numpy().max(initial=0) >= len(logits):
                raise RunFailed(
                    "The dataset yields different images than in its first pass. Do not augment them."
                )
            logits[indices.numpy()] = tf.cast(forward(batch), tf.float32).numpy()
    records = dataset.records
    paths = tuple(record.path for record in records)
    invalid = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(invalid):
        raise RunFailed(
            f"The logits of {len(invalid)} of {len(paths)} images are not finite; the first is {paths[invalid[0]]}. "
            "The weights may contain NaN, or the dataset does not yield these images."
        )
    # A run reports a random model as a failed consistency check and keeps its results.
    messages = output_messages(network, logits, logits)
    raise_problems("The model", [Problem("", message) for message in messages])
    return Predictions(
        paths,
        np.asarray(dataset.labels, np.int32),
        logits,
        tuple(dataset.class_names),
        tuple(record.split or "" for record in records),
        tuple(record.group or "" for record in records),
        tuple(record.domain or "" for record in records),
        subgroup_columns(records),
        getattr(model, "temperature", None),
        names_of_copies(records),
    )


def decode_twice(dataset: ImageDataset) -> tuple[Array, Array]:
    """Decode the images of a dataset twice, from the files.

    Args:
        dataset: The images. Order, augmentation and cache do not matter.

    Returns:
        Two arrays `[n, height, width, 3]` float32 in [0, 255].

    Raises:
        RunFailed: If an image can no longer be read.
    """
    count = dataset.num_examples
    images = dataset.decode(np.tile(np.arange(count), 2))
    return images[:count], images[count:]


def compare_passes(
    model: keras.Model, decodings: Sequence[Array], paths: Sequence[str], *, batch_size: int
) -> tuple[dict[str, Any], Array]:
    """Predict two decodings of the same images and compare pixels and logits bit by bit.

    Args:
        model: As in `predict`.
        decodings: Two arrays, as `decode_twice` returns them.
        paths: Paths of the images.
        batch_size: Images per call of the model.

    Returns:
        A report `{"images", "differ", "largest_difference", "sha256", "faults"}` and the logits of the first pass,
        `[n, classes]` float32. `differ` is the number of images with different logits, `sha256` the hash of the logits
        of each pass (16 hex digits). `faults` is empty if the passes are equal.
    """
    forward = trace_inference(fold_for_inference(model))
    first, second = (_batched_logits(forward, images, batch_size) for images in decodings)
    differ = _rows_that_differ(first, second)
    faults = []
    decoded = _rows_that_differ(*decodings)
    if decoded:
        faults.append(
            f"{len(decoded)} of {len(paths)} images have different pixels when decoded again; the first is "
            f"{paths[decoded[0]]}."
        )
    if differ:
        faults.append(
            f"{len(differ)} of {len(paths)} images have different logits when predicted again, by up to "
            f"{np.abs(first - second).max():.2g}; the first is {paths[differ[0]]}. A layer is random or stateful "
            "in inference mode."
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
