"""Figures of a classifier, computed for many weightings of the same pictures at once.

A bootstrap resample is a weighting: how often each picture was drawn. Every figure here takes weights
`[resamples, n]` and returns `[resamples]`, so that a thousand resamples cost one matrix product. With
weights of one they equal scikit-learn's, which the tests hold them to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _ratio(above: Array, below: Array) -> Array:
    """Divide; NaN where nothing is below, without a warning."""
    result = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def accuracy(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the weighted share of right answers."""
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return _ratio(weights @ right, weights.sum(axis=1))


def recalls(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return `[resamples, classes]`: of the pictures of each class, the share that was found."""
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    of_class = (labels[:, None] == classes).astype(np.float64)
    found = of_class * (predicted == labels)[:, None]
    return _ratio(weights @ found, weights @ of_class)


def precisions(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return `[resamples, classes]`: of the answers for each class, the share that was right."""
    predicted = probabilities.argmax(axis=1)
    said = (predicted[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)
    right = said * (predicted == labels)[:, None]
    return _ratio(weights @ right, weights @ said)


def f1_scores(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return `[resamples, classes]`: 2 TP / (2 TP + FP + FN)."""
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    said = (predicted[:, None] == classes).astype(np.float64)
    of_class = (labels[:, None] == classes).astype(np.float64)
    return _ratio(2 * (weights @ (said * of_class)), weights @ said + weights @ of_class)


def balanced_accuracy(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the mean recall of the classes that are present in the data."""
    present = np.unique(labels)
    return recalls(labels, probabilities, weights)[:, present].mean(axis=1)


def macro_f1(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the mean F1 of the classes that are present or predicted."""
    scores = f1_scores(labels, probabilities, weights)
    known = ~np.isnan(scores)
    return _ratio(np.where(known, scores, 0.0).sum(axis=1), known.sum(axis=1))


def log_loss(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the weighted mean of -log p(label), in nats; p is held above 1e-7."""
    told = np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1.0)
    return _ratio(weights @ -np.log(told), weights.sum(axis=1))


def binary_auc(positive: Array, scores: Array, weights: Array) -> Array:
    """Return the area under the ROC curve, ties counted half (Hanley & McNeil 1982).

    Args:
        positive: `[n]` bool.
        scores: `[n]`, higher for the positive class.
        weights: `[resamples, n]`.

    Returns:
        `[resamples]` float64, NaN where one of the two classes has no weight.
    """
    order = np.argsort(scores, kind="stable")
    _, tie = np.unique(scores[order], return_inverse=True)
    starts = np.flatnonzero(np.r_[True, np.diff(tie) > 0])
    above = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
    below = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    under = np.cumsum(below, axis=1) - 0.5 * below
    return _ratio((above * under).sum(axis=1), above.sum(axis=1) * below.sum(axis=1))


def class_auc(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return `[resamples, classes]`: each class against the rest."""
    columns = [
        binary_auc(labels == place, probabilities[:, place], weights)
        for place in range(probabilities.shape[1])
    ]
    return np.stack(columns, axis=1)


def auc(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the AUC of the last of two classes, or the mean one-vs-rest AUC of more."""
    if probabilities.shape[1] == 2:
        return binary_auc(labels == 1, probabilities[:, 1], weights)
    return class_auc(labels, probabilities, weights).mean(axis=1)


Metric = Callable[[Array, Array, Array], Array]
OVERALL: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auc": auc,
    "log_loss": log_loss,
}
BY_CLASS: dict[str, Metric] = {
    "precision": precisions,
    "recall": recalls,
    "f1": f1_scores,
    "auc": class_auc,
}
