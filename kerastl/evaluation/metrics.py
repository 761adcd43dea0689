"""Figures of a classifier, computed for many weightings of the same images at once.

A bootstrap resample is a weighting: how often each image was drawn. Every figure here takes weights
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


def _mean_of_known(values: Array) -> Array:
    """Return the mean of each row's numbers that are not NaN; NaN where there is none."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1))


def accuracy(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the weighted share of right answers."""
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return _ratio(weights @ right, weights.sum(axis=1))


def recalls(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return `[resamples, classes]`: of the images of each class, the share that was found."""
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
    """Return the mean recall of the classes that are present."""
    return _mean_of_known(recalls(labels, probabilities, weights))


def macro_f1(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the mean F1 of the classes that are present or predicted."""
    return _mean_of_known(f1_scores(labels, probabilities, weights))


def log_loss(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the weighted mean of -log p(label), in nats; p is held above 2.2e-16, as scikit-learn does."""
    told = np.clip(probabilities[np.arange(len(labels)), labels], np.finfo(np.float64).eps, 1.0)
    # Not a matrix product: these are no whole numbers, and its order of summing depends on the threads.
    return _ratio((weights * -np.log(told)).sum(axis=1), weights.sum(axis=1))


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
    ranked, is_positive = scores[order], positive[order]
    in_order = weights[:, order]
    below = np.zeros((len(weights), len(order) + 1))
    np.cumsum(in_order * ~is_positive, axis=1, out=below[:, 1:])
    drawn = in_order[:, is_positive]
    first = np.searchsorted(ranked, ranked[is_positive], side="left")
    last = np.searchsorted(ranked, ranked[is_positive], side="right")
    won = 0.5 * (below[:, first] + below[:, last])
    return _ratio((drawn * won).sum(axis=1), drawn.sum(axis=1) * below[:, -1])


def class_auc(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return `[resamples, classes]`: each class against the rest."""
    columns = [
        binary_auc(labels == place, probabilities[:, place], weights)
        for place in range(probabilities.shape[1])
    ]
    return np.stack(columns, axis=1)


def auc(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the AUC of the last of two classes, or the mean one-vs-rest AUC of more.

    NaN where a class is absent from the data; one that a resample alone lacks is left out of its mean.
    """
    num_classes = probabilities.shape[1]
    if num_classes == 2:
        return binary_auc(labels == 1, probabilities[:, 1], weights)
    if len(np.unique(labels)) < num_classes:
        return np.full(len(weights), np.nan)
    return _mean_of_known(class_auc(labels, probabilities, weights))


BINS = 15


def equal_mass_bins(scores: Array, bins: int = BINS) -> Array:
    """Return the bin of each score, 0 to `bins - 1`: bins of equal counts, equal scores in one bin.

    With fewer scores than bins, or many equal ones, some bins are empty.
    """
    ranked = np.sort(scores)
    below = np.searchsorted(ranked, scores, side="left")
    return below * bins // max(1, len(scores))


def confidence_and_outcome(labels: Array, probabilities: Array) -> tuple[Array, Array]:
    """Return what calibration compares: a probability `[n]` float64, and whether it came true, `[n]` bool.

    Of two classes the probability is that of the last one, of more it is that of the answer, which comes
    true where the answer is right.
    """
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], labels == 1
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def ece(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the expected calibration error: mean gap between probability told and share that came true.

    Probabilities are those of `confidence_and_outcome`, in 15 bins of equal mass, which stay the same in every
    resample. Chance alone keeps it above 0, the more so in resamples.

    Reference:
        Guo et al. 2017, arXiv:1706.04599, equation 3; equal mass: Nguyen & O'Connor 2015, arXiv:1508.05154.
    """
    told, true = confidence_and_outcome(labels, probabilities)
    places = equal_mass_bins(told)
    order = np.argsort(places, kind="stable")
    _, starts = np.unique(places[order], return_index=True)
    gaps = (told - true)[order]
    # Summed along rows, no matrix product, whose order of summing depends on the threads.
    sums = np.add.reduceat(weights[:, order] * gaps, starts, axis=1)
    return _ratio(np.abs(sums).sum(axis=1), weights.sum(axis=1))


def brier(labels: Array, probabilities: Array, weights: Array) -> Array:
    """Return the mean squared distance between probabilities and truth (Brier 1950), as scikit-learn counts it.

    Of two classes 0 to 1: one class alone is counted. Of more 0 to 2: all are summed.
    """
    truth = labels[:, None] == np.arange(probabilities.shape[1])
    squares = ((probabilities - truth) ** 2).sum(axis=1)
    halved = squares / 2 if probabilities.shape[1] == 2 else squares
    return _ratio((weights * halved).sum(axis=1), weights.sum(axis=1))


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
BY_CLASS: dict[str, Metric] = {"precision": precisions, "recall": recalls, "f1": f1_scores, "auc": class_auc}
