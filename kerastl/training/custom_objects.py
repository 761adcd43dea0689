"""Keras losses, metrics and optimizers of a phase from Python: their checks before training, and how they are called.

Losses and metrics are checked by calling them on correct and on wrong predictions.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.data.records import evenly_spaced
from kerastl.errors import first_line
from kerastl.recipe.phase import Phase
from kerastl.tasks import SINGLE_LABEL

Array = np.ndarray[Any, Any]
LossFunction = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
FOR_PROBABILITIES = ("KLDivergence", "Poisson", "Dice", "Tversky", "MeanSquaredLogarithmicError")
"""Keras losses that are defined for probabilities and have no `from_logits`."""
UNSUPPORTED_OPTIMIZERS = ("LossScaleOptimizer", "MultiOptimizer", "ScheduleFreeAdamW")
MAX_CLASSES = 10
"""Maximum number of classes that are tried one by one, because each takes two passes over the examples."""
MARGIN = 3.0
"""Absolute logit of the predictions on which losses and metrics are checked."""


def _name(custom: Any) -> str:
    """Return the name of a function, or that of the class of an object."""
    return str(getattr(custom, "__name__", type(custom).__name__))


def takes_indices(custom: Any) -> bool:
    """Return whether a loss or a metric takes class indices `[n]`. All others take one-hot labels `[n, classes]`."""
    kinds = type(custom).__mro__ if not inspect.isfunction(custom) else ()
    return _name(custom).startswith("sparse_") or any(kind.__name__.startswith("Sparse") for kind in kinds)


def _describe_labels(custom: Any) -> str:
    return "class indices" if takes_indices(custom) else "one-hot labels"


def build_loss(custom: Any) -> LossFunction:
    """Return a function of labels, logits `[n, classes]` and weights `[n]` that returns the mean loss, a scalar.

    Labels are `[n]` int32, or `[n, classes]` float32 for mixed images.

    Args:
        custom: A `keras.losses.Loss`, or a function of labels and logits that returns `[n]`.
    """

    def loss(labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        logits = tf.cast(logits, tf.float32)
        if not takes_indices(custom) and not labels.dtype.is_floating:
            labels = tf.one_hot(labels, logits.shape[-1])
        if isinstance(custom, keras.losses.Loss):
            return custom(labels, logits, sample_weight=weights)
        values = tf.convert_to_tensor(custom(labels, logits))
        if values.shape.rank != 1 or not values.shape.is_compatible_with(weights.shape):
            raise ValueError(f"it must return one value per image, got the shape {values.shape}")
        return tf.reduce_mean(weights * values)

    return loss


def metric_values(metrics: Sequence[Any], logits: Array, labels: Array) -> dict[str, float]:
    """Return the value of each metric as `val_<name>`.

    A metric receives probabilities, or logits if it was created with `from_logits=True`.

    Args:
        metrics: The metrics.
        logits: `[n, classes]`.
        labels: `[n]` int32.
    """
    values = {}
    one_hot = np.eye(logits.shape[1], dtype=np.float32)[labels]
    for metric in metrics:
        is_for_logits = getattr(metric, "from_logits", False)
        predicted = logits if is_for_logits else SINGLE_LABEL.probabilities(logits).astype(np.float32)
        metric.reset_state()
        metric.update_state(labels if takes_indices(metric) else one_hot, predicted)
        values[f"val_{metric.name}"] = float(keras.ops.convert_to_numpy(metric.result()))
        metric.reset_state()
    return values


def copy_optimizer(optimizer: keras.Optimizer) -> Any:
    """Return an optimizer with the same config and without state."""
    copy: Any = type(optimizer).from_config(optimizer.get_config())
    excluded = {name: value for name, value in vars(optimizer).items() if name.startswith("_exclude_from")}
    vars(copy).update(excluded)  # not in the config
    return copy


def describe_objects(phase: Phase) -> dict[str, Any]:
    """Return the class and the config of the custom objects of a phase, for the history. Empty if there are none."""
    optimizer = None if isinstance(phase.optimizer, str) else phase.optimizer
    objects = {"loss": phase.loss, "metrics": list(phase.metrics) or None, "optimizer": optimizer}
    described = {key: keras.tree.map_structure(_describe, value) for key, value in objects.items() if value}
    return {"phase": phase.name, **described} if described else {}


def _describe(custom: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"class": _name(custom)}
    if hasattr(custom, "get_config"):
        described["config"] = {}
        with suppress(Exception):  # a class of the user
            described["config"] = json.loads(json.dumps(custom.get_config(), default=_text))
    elif isinstance(custom, partial):
        described["config"] = {"function": _name(custom.func), "args": _text([custom.args, custom.keywords])}
    return described


def _text(value: Any) -> str:
    """Return a value as text, without addresses in memory, which differ in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def custom_problems(phase: Phase, num_classes: int, *, mixes: bool, has_val: bool) -> Iterator[str]:
    """Yield what is wrong with the custom objects of a phase.

    Args:
        phase: The phase.
        num_classes: Number of logits.
        mixes: Whether the training images are mixed, so that their labels are not indices.
        has_val: Whether there are validation images.
    """
    if phase.loss is not None:
        messages = list(_loss_form_problems(phase.loss, mixes=mixes)) or _loss_problems(
            phase.loss, num_classes
        )
        yield from (f"loss: {_name(phase.loss)} {message}" for message in messages)
    if phase.metrics and not has_val:
        yield "metrics: are computed for validation images, but there are none. Use validation_data=."
    for metric in phase.metrics:
        yield from (f"metrics: {metric.name} {message}" for message in _metric_problems(metric, num_classes))
    if not isinstance(phase.optimizer, str):
        yield from (
            f"optimizer: {_name(phase.optimizer)} {message}" for message in _optimizer_problems(phase)
        )


def _loss_form_problems(loss: Any, *, mixes: bool) -> Iterator[str]:
    """Yield what the attributes of a loss show to be wrong."""
    reduction = getattr(loss, "reduction", "mean")
    if reduction not in ("mean", "sum_over_batch_size"):
        yield (
            f"has reduction={reduction!r}, but the mean over the images is needed, because batches differ in size. Use "
            "reduction='sum_over_batch_size'."
        )
    from_logits = getattr(loss, "from_logits", True)
    if inspect.isfunction(loss) and "from_logits" in (parameters := inspect.signature(loss).parameters):
        from_logits = parameters["from_logits"].default
    if not from_logits:
        yield "is for probabilities, but models return logits. Use its class with from_logits=True."
    if any(kind.__name__ in FOR_PROBABILITIES for kind in type(loss).__mro__):
        yield "is for probabilities, but models return logits. Apply keras.ops.softmax in a loss of your own."
    if mixes and takes_indices(loss):
        yield (
            "takes class indices, but mixed images have soft labels, with a fraction per class. Use a loss for one-hot "
            "labels, such as keras.losses.CategoricalCrossentropy(from_logits=True), or remove mix=."
        )


def _examples(num_classes: int) -> tuple[Array, Array, Array]:
    """Return labels `[n]` of all classes, and the logits `[n, classes]` of correct and of wrong predictions."""
    labels = np.tile(np.arange(num_classes, dtype=np.int32), 4)
    return labels, _logits(labels, labels), _logits(labels, (labels + 1) % num_classes)


def _logits(labels: Array, predicted: Array) -> Array:
    """Return logits `[n, classes]` of predicted classes. The label of a wrong prediction has the smallest logit."""
    rows, is_wrong = np.eye(labels.max() + 1), (labels != predicted)[:, None]
    return (MARGIN * (2 * rows[predicted] - 1 - is_wrong * rows[labels])).astype(np.float32)


def _loss_problems(custom: Any, num_classes: int) -> Iterator[str]:
    """Yield what the values and the gradient of a loss show to be wrong."""
    labels, correct, wrong = _examples(num_classes)
    loss = build_loss(custom)
    try:
        logits = tf.constant(wrong)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            for_wrong = loss(tf.constant(labels), logits, tf.ones(len(labels)))
        gradient = tape.gradient(for_wrong, logits)
        for_correct = loss(tf.constant(labels), tf.constant(correct), tf.ones(len(labels)))
        twice, logits_twice = (tf.constant(np.concatenate([values] * 2)) for values in (labels, wrong))
        for_twice = loss(twice, logits_twice, tf.ones(2 * len(labels)))
        values = np.array([float(value) for value in (for_wrong, for_correct, for_twice)])
    except Exception as error:
        yield (
            f"cannot be computed for {_describe_labels(custom)} and logits {list(wrong.shape)}: {type(error).__name__}: {first_line(error)}"
        )
        return
    if not np.isfinite(values).all() or gradient is None or not np.isfinite(gradient).all():
        yield "has a value or a gradient that is not finite, or no gradient."
    elif not np.isclose(values[0], values[2], rtol=1e-3):
        yield f"depends on the number of images: {values[0]:.4g} becomes {values[2]:.4g} for twice as many. Return a mean."
    elif values[1] >= values[0] or not np.any(gradient):
        yield f"must be smaller for correct predictions ({values[1]:.4g}) than for wrong ones ({values[0]:.4g})."


def _values_for_examples(metric: Any, num_classes: int) -> tuple[float, float]:
    """Return the values of a metric for correct and for wrong predictions."""
    labels, *predictions = _examples(num_classes)
    correct, wrong = (_value(metric, logits, labels) for logits in predictions)
    return correct, wrong


def _value(metric: Any, logits: Array, labels: Array) -> float:
    return metric_values([metric], logits, labels)[f"val_{metric.name}"]


def _ignored_classes(metric: Any, num_classes: int) -> list[int]:
    """Return the classes that a metric for several classes ignores: no prediction of their images changes its value.

    A metric for one class, such as its recall, ignores all others. A metric that was created for fewer classes than the
    model has ignores the last ones. If there are many classes, only a sample of them is tried.
    """
    labels, correct, _ = _examples(num_classes)
    value, tried = _value(metric, correct, labels), evenly_spaced(range(num_classes), MAX_CLASSES)
    ignored = [
        label
        for label in tried
        if all(
            _value(metric, _logits(labels, np.where(labels == label, other, labels)), labels) == value
            for other in ((label + 1) % num_classes, (label - 1) % num_classes)
        )
    ]
    selects = getattr(metric, "num_classes", num_classes) == num_classes and any(
        getattr(metric, name, None) is not None for name in ("class_id", "target_class_ids")
    )
    return [] if selects or len(ignored) >= len(tried) - 1 else ignored


def _metric_problems(metric: Any, num_classes: int) -> Iterator[str]:
    try:
        correct, wrong = _values_for_examples(metric, num_classes)
    except Exception as error:
        yield (
            f"cannot be computed as a single number for {_describe_labels(metric)} and probabilities [n, {num_classes}]: "
            f"{type(error).__name__}: {first_line(error)}. If it has one value per class, use average='macro'."
        )
        return
    if not np.isfinite([correct, wrong]).all():
        yield "is not finite."
    elif correct == wrong:
        yield f"has the same value, {correct:g}, for correct and for wrong predictions of {num_classes} classes."
    elif ignored := _ignored_classes(metric, num_classes):
        yield (
            f"does not depend on the images of class {', '.join(map(str, ignored))}. Create it for {num_classes} classes, or list "
            "the classes that it evaluates in its attribute target_class_ids."
        )


def with_direction(phase: Phase, num_classes: int) -> Phase:
    """Return the phase with the direction of its monitored metric: whether a smaller value is better."""
    metric = next((metric for metric in phase.metrics if f"val_{metric.name}" == phase.monitor), None)
    if metric is None:
        return phase
    correct, wrong = _values_for_examples(metric, num_classes)
    return phase.with_minimized_monitor(is_minimized=correct < wrong)


def _optimizer_problems(phase: Phase) -> Iterator[str]:
    optimizer: Any = phase.optimizer
    if _name(optimizer) in UNSUPPORTED_OPTIMIZERS:
        yield "is not supported, because fit has its own learning rate for each variable and its own averages."
        return
    if getattr(optimizer, "use_ema", False):
        yield "has use_ema=True, which fit does not apply. Use Phase(ema=0.99)."
    try:
        copy_optimizer(optimizer)
    except Exception as error:
        yield (
            f"cannot be copied: {type(error).__name__}: {first_line(error)}. Add all arguments to its get_config()."
        )
