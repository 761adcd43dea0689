"""The classification step: cross-entropy on one stream of labeled images with one class per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset
from kerastl.tasks import SINGLE_LABEL
from kerastl.training.batch_norm import build_statistics_estimator
from kerastl.training.custom_objects import LossFunction
from kerastl.training.freeze import is_statistic
from kerastl.training.step import Batches, Losses


def balanced_weights(labels: np.ndarray[Any, Any], num_classes: int) -> np.ndarray[Any, Any]:
    """Return `[classes]` float32 weights, the inverse of the class frequencies, with mean 1 over the images."""
    counts = np.bincount(labels[labels >= 0], minlength=num_classes).astype(np.float64)
    present = counts > 0
    weights = np.zeros(num_classes)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights.astype(np.float32)


def _are_mixed(labels: tf.Tensor) -> bool:
    return bool(tf.as_dtype(labels.dtype).is_floating)


def weighted(labels: tf.Tensor, class_weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the weight of each image, and its label weighted by class.

    The loss of a mixed image is the mix of the losses of its parts, each weighted by its class:
    `a * w1 * loss1 + b * w2 * loss2` is `w = a * w1 + b * w2` times the loss for the label `(a * w1 / w, b * w2 / w)`.

    Args:
        labels: `[batch]` int32, or `[batch, classes]` float32 rows that sum to 1.
        class_weights: `[classes]` float32, at least 0.

    Returns:
        Weights `[batch]` float32, and labels of the same type, with rows that sum to 1.
    """
    if not _are_mixed(labels):
        return tf.gather(class_weights, labels), labels
    parts = labels * class_weights
    weights = tf.reduce_sum(parts, -1)
    return weights, tf.math.divide_no_nan(parts, weights[:, None])


class ClassificationStep:
    """The step of a classifier, on the stream `train`.

    Args:
        num_classes: Number of classes.
        label_smoothing: As in `SingleLabel.loss`.
        class_weights: `[classes]` weights of the images of each class. None for 1.
        focal_gamma: As in `SingleLabel.loss`.
        loss: A function as from `build_loss`, which replaces the cross-entropy. None for the cross-entropy.
        update_statistics: Whether to estimate the BatchNorm statistics over the training images before each
            validation. Needed if BatchNorm runs in training mode.
    """

    variables: Sequence[keras.Variable] = ()
    metric_names: Sequence[str] = ("accuracy",)
    stream_names: Sequence[str] = ("train",)
    uses_target_labels = False

    def __init__(
        self,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | np.ndarray[Any, Any] | None = None,
        focal_gamma: float = 0.0,
        loss: LossFunction | None = None,
        update_statistics: bool = False,
    ) -> None:
        weights = np.ones(num_classes) if class_weights is None else np.asarray(class_weights)
        self._class_weights = tf.constant(weights, tf.float32)
        self._label_smoothing, self._focal_gamma = label_smoothing, focal_gamma
        self._loss, self._update_statistics = loss, update_statistics
        self._estimate: Callable[[ImageDataset], None] | None = None

    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:  # noqa: ARG002
        """Return the weighted cross-entropy and the accuracy of a batch.

        The class of a mixed image is the one with the largest part of its label.
        """
        images, labels, _ = batches["train"]
        logits = model(images, training=True)
        weights, target = weighted(labels, self._class_weights)
        count = tf.cast(tf.shape(labels)[0], tf.float32)
        if self._loss is not None:
            loss = self._loss(target, logits, weights)
        else:
            entropy = SINGLE_LABEL.loss(
                target, logits, label_smoothing=self._label_smoothing, focal_gamma=self._focal_gamma
            )
            loss = tf.math.divide_no_nan(tf.reduce_sum(weights * entropy), count)
        if _are_mixed(labels):
            labels = tf.argmax(labels, -1, output_type=tf.int32)
        is_correct = tf.cast(tf.argmax(logits, -1, output_type=labels.dtype) == labels, tf.float32)
        return {"loss": loss, "accuracy": tf.math.divide_no_nan(tf.reduce_sum(is_correct), count)}

    def on_epoch(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Estimate the BatchNorm statistics if they are updated."""
        if not self._update_statistics:
            return
        if self._estimate is None:
            self._estimate = build_statistics_estimator(model)
        self._estimate(sources["train"])

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return no state: the variables of the model are sufficient."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Do nothing, because there is no state."""

    def may_change(self, variable: keras.Variable) -> bool:
        """Return whether a variable is a BatchNorm statistic that is updated."""
        return self._update_statistics and is_statistic(variable)
