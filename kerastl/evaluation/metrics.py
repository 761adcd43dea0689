"""Classification metrics for many bootstrap resamples at once.

A resample is a weight per image: the number of times it was drawn. Every metric takes weights `[resamples, n]` and returns
`[resamples]`, mostly with one matrix product. With weights of 1, the metrics equal those of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def ratio(numerator: Array, denominator: Array) -> Array:
    """Divide. NaN if the denominator is 0, without a warning."""
    result = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


def _nan_mean(values: Array) -> Array:
    """Return the mean of each row without NaN. NaN if there is no other value."""
    is_defined = ~np.isnan(values)
    return ratio(np.where(is_defined, values, 0.0).sum(axis=1), is_defined.sum(axis=1))


def accuracy(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the weighted accuracy."""
    is_correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return ratio(weights @ is_correct, weights.sum(axis=1))


def recalls(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return `[resamples, classes]`, the recall of each class."""
    of_class, of_prediction = _one_hot(labels, probabilities)
    return ratio(weights @ (of_class * of_prediction), weights @ of_class)


def precisions(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return `[resamples, classes]`, the precision of each class."""
    of_class, of_prediction = _one_hot(labels, probabilities)
    return ratio(weights @ (of_class * of_prediction), weights @ of_prediction)


def f1_scores(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return `[resamples, classes]`, the F1 score of each class: 2 TP / (2 TP + FP + FN)."""
    of_class, of_prediction = _one_hot(labels, probabilities)
    true_positives = weights @ (of_class * of_prediction)
    return ratio(2 * true_positives, weights @ of_prediction + weights @ of_class)


def _one_hot(labels: Array, probabilities: Array) -> tuple[Array, Array]:
    """Return labels and predicted classes as `[n, classes]` float64."""
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    return (labels[:, None] == classes).astype(np.float64), (predicted[:, None] == classes).astype(np.float64)


def balanced_accuracy(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the mean recall of the classes that are present."""
    return _nan_mean(recalls(labels, probabilities, weights))


def macro_f1(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the mean F1 of the classes that are present or predicted."""
    return _nan_mean(f1_scores(labels, probabilities, weights))


def log_loss(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the weighted mean of -log p(label), in nats; p is at least 2.2e-16, as in scikit-learn."""
    of_label = np.clip(probabilities[np.arange(len(labels)), labels], np.finfo(np.float64).eps, 1.0)
    # Not a matrix product: its order of summation depends on the number of threads, and the terms are not integers.
    return ratio((weights * -np.log(of_label)).sum(axis=1), weights.sum(axis=1))


def binary_auc(positive: Array, scores: Array, weights: Array) -> Array:
    """Return the area under the ROC curve. Ties count half (Hanley & McNeil 1982).

    Args:
        positive: `[n]` bool.
        scores: `[n]`, higher for the positive class.
        weights: `[resamples, n]`.

    Returns:
        `[resamples]` float64, NaN if one of the two classes has no weight.
    """
    order = np.argsort(scores, kind="stable")
    ranked, is_positive = scores[order], positive[order]
    in_order = weights[:, order]
    below = np.zeros((len(weights), len(order) + 1))
    np.cumsum(in_order * ~is_positive, axis=1, out=below[:, 1:])
    drawn = in_order[:, is_positive]
    first = np.searchsorted(ranked, ranked[is_positive], side="left")
    last = np.searchsorted(ranked, ranked[is_positive], side="right")
    negatives_below = 0.5 * (below[:, first] + below[:, last])
    return ratio((drawn * negatives_below).sum(axis=1), drawn.sum(axis=1) * below[:, -1])


def class_auc(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return `[resamples, classes]`, the AUC of each class against the rest."""
    columns = [
        binary_auc(labels == index, probabilities[:, index], weights)
        for index in range(probabilities.shape[1])
    ]
    return np.stack(columns, axis=1)


def auc(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the AUC of the last of two classes, or the mean one-vs-rest AUC of more classes.

    It is NaN if a class is absent from the data. A class that is absent from a resample only is left out of its mean.
    """
    num_classes = probabilities.shape[1]
    if num_classes == 2:
        return binary_auc(labels == 1, probabilities[:, 1], weights)
    if len(np.unique(labels)) < num_classes:
        return np.full(len(weights), np.nan)
    return _nan_mean(class_auc(labels, probabilities, weights))


BINS = 15


def equal_mass_bins(scores: Array, bins: int = BINS) -> Array:
    """Return the bin of each score, 0 to `bins - 1`. Bins have equal counts, and equal scores are in one bin.

    Some bins are empty if there are fewer scores than bins, or many equal scores.
    """
    ranked = np.sort(scores)
    below = np.searchsorted(ranked, scores, side="left")
    return below * bins // max(1, len(scores))


def confidence_and_outcome(labels: Array, probabilities: Array) -> tuple[Array, Array]:
    """Return what calibration compares: a probability, `[n]` float64, and whether its event occurred, `[n]` bool.

    With two classes, the event is the last class. With more, it is that the predicted class is correct.
    """
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], labels == 1
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def ece(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the expected calibration error, the mean gap between predicted probability and observed frequency.

    It uses `confidence_and_outcome` in 15 bins of equal mass, which are the same in every resample. It is biased upward
    on few images, and more so in resamples.

    Reference:
        Guo et al. 2017, arXiv:1706.04599, equation 3; equal mass: Nguyen & O'Connor 2015, arXiv:1508.05154.
    """
    confidence, outcome = confidence_and_outcome(labels, probabilities)
    bins = equal_mass_bins(confidence)
    order = np.argsort(bins, kind="stable")
    _, starts = np.unique(bins[order], return_index=True)
    gaps = (confidence - outcome)[order]
    # Not a matrix product: its order of summation depends on the number of threads.
    sums = np.add.reduceat(weights[:, order] * gaps, starts, axis=1)
    return ratio(np.abs(sums).sum(axis=1), weights.sum(axis=1))


def brier(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the mean squared difference between probabilities and labels (Brier 1950), as in scikit-learn.

    It ranges from 0 to 1 with two classes, of which one is counted, and from 0 to 2 with more, which are summed.
    """
    targets = labels[:, None] == np.arange(probabilities.shape[1])
    squares = ((probabilities - targets) ** 2).sum(axis=1)
    halved = squares / 2 if probabilities.shape[1] == 2 else squares
    return ratio((weights * halved).sum(axis=1), weights.sum(axis=1))


Metric = Callable[[Array, Array, Array], Array]
OVERALL: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auc": auc,
    "log_loss": log_loss,
    "ece": ece,
    "brier": brier,
}
CALIBRATION_METRICS: dict[str, Metric] = {"ece": ece, "brier": brier, "log_loss": log_loss}
BY_CLASS: dict[str, Metric] = {"precision": precisions, "recall": recalls, "f1": f1_scores, "auc": class_auc}
