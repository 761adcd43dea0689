"""The figures of an epoch on validation pictures, for curves and for choosing the best epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from kerastl.training.classification import cross_entropy
from kerastl.training.feed import read_batches
from kerastl.training.learner import Source

Forward = Callable[[tf.Tensor], tf.Tensor]


def validate(forward: Forward, source: Source) -> dict[str, float | None]:
    """Run the model once over a source and return its figures.

    Args:
        forward: images `[b, h, w, 3]` in [0, 255], or activations, to logits `[b, classes]`, in inference mode.
        source: labelled pictures, not augmented.

    Returns:
        `val_loss` (cross-entropy in nats), `val_accuracy`, `val_balanced_accuracy` (mean recall of the
        classes present) and `val_auc` (macro one-vs-rest; None when a class is absent).
    """
    logits, labels = [], []
    for images, batch_labels, _ in read_batches(source, 0):
        logits.append(np.asarray(forward(images)))
        labels.append(np.asarray(batch_labels))
    return figures(np.concatenate(logits), np.concatenate(labels))


def figures(logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> dict[str, float | None]:
    """Return the figures of `validate` from logits `[n, classes]` and labels `[n]`."""
    right = logits.argmax(axis=1) == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return {
        "val_loss": float(tf.reduce_mean(cross_entropy(labels, logits))),
        "val_accuracy": float(right.mean()),
        "val_balanced_accuracy": float(np.mean(recalls)),
        "val_auc": _auc(logits.astype(np.float64), labels),
    }


def _auc(logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float | None:
    num_classes = logits.shape[1]
    if len(np.unique(labels)) < num_classes or not np.isfinite(logits).all():
        return None
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = shifted / shifted.sum(axis=1, keepdims=True)
    if num_classes == 2:
        return float(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
    return float(roc_auc_score(labels, scores, multi_class="ovr", average="macro"))
