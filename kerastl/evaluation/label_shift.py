"""Prevalence at a target without labels, if it differs from the source only in prevalence (label shift).

Label shift means that p(image | class) is the same at both sites, but p(class) is not. A different scanner violates this
assumption, and the estimates are then wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kerastl.evaluation import bootstrap
from kerastl.evaluation.calibration import calibrate, fit_calibrator
from kerastl.evaluation.metrics import CALIBRATION_METRICS, balanced_accuracy
from kerastl.evaluation.predictions import Array, Predictions

MAX_ITERATIONS = 10_000
TOLERANCE = 1e-7
MIN_SINGULAR_VALUE = 0.05
"""Of the confusion matrix with columns of sum 1. Below it, the predictions hardly depend on the class."""


@dataclass(frozen=True)
class PrevalenceEstimate:
    """The frequency of each class at the target.

    Args:
        source: `[classes]` float64, the frequencies of the source labels.
        value: `[classes]` float64, the estimated frequencies at the target. NaN without an estimate.
        low, high: `[classes]` float64, their interval. NaN without an interval.
        signs: `[classes]` int: -1 if the class is less frequent at the target, 1 if it is more frequent, and 0 if the
            interval of the difference between the target and the source, resampled together, contains 0.
        reason: Why the estimate or the interval is missing. Empty if neither is.
    """

    source: Array
    value: Array
    low: Array
    high: Array
    signs: Array
    reason: str

    @property
    def differs(self) -> bool | None:
        """Whether the frequency of some class differs from the source beyond its interval. None if unknown."""
        return None if np.isnan(self.low).any() else bool(self.signs.any())


def estimate_prevalence(
    source_labels: Array,
    source_logits: Array,
    target_logits: Array,
    source: bootstrap.Resamples,
    target: bootstrap.Resamples,
    *,
    method: str = "em",
) -> PrevalenceEstimate:
    """Return the prevalence at a target without labels.

    Args:
        source_labels: `[n]` int, labels of validation images of the source, which were not used in training. Each class
            occurs.
        source_logits: `[n, classes]` float.
        target_logits: `[m, classes]` float, of at least one image.
        source, target: Resamples of the images. Everything is refitted for each of them.
        method: `em` (Saerens et al. 2002) on probabilities calibrated by `fit_calibrator`, with the smaller variance; or
            `bbse` (Lipton et al. 2018), from the confusion matrix, without calibration.

    Reference:
        Saerens, Latinne & Decaestecker 2002, doi:10.1162/089976602753284446, equation 2.9; Alexandari,
        Kundaje & Shrikumar 2020, arXiv:1901.06852; Lipton, Wang & Smola 2018, arXiv:1802.03916.
    """
    classes = source_logits.shape[1]
    estimate = partial(METHODS[method], source_labels, source_logits, target_logits)
    value, reason = estimate(np.ones(len(source_labels)), np.ones(len(target_logits)))
    fewest = min(source, target, key=lambda resamples: resamples.groups)
    reason = reason or fewest.no_interval_reason(f" at the {'source' if fewest is source else 'target'}")
    intervals = np.full(classes, np.nan), np.full(classes, np.nan), np.zeros(classes, int)
    if not reason:
        intervals = resample_prevalence(lambda *weights: estimate(*weights)[0], source_labels, source, target)
        reason = bootstrap.UNDEFINED if np.isnan(intervals[0]).any() else ""
        for index in np.flatnonzero(intervals[1] - intervals[0] <= bootstrap.ROUNDING):
            groups = min(source.groups, target.groups)
            limits = bootstrap.proportion_interval(float(value[index]), groups, level=source.level)
            intervals[0][index], intervals[1][index] = limits
    frequencies = class_frequencies(source_labels, np.ones(len(source_labels)), classes)
    return PrevalenceEstimate(frequencies, value, *intervals, reason)


def resample_prevalence(
    estimate: Callable[[Array, Array], Array],
    labels: Array,
    source: bootstrap.Resamples,
    target: bootstrap.Resamples,
) -> tuple[Array, Array, Array]:
    """Return the interval of an estimated prevalence, and whether it differs from that of the source.

    Args:
        estimate: Returns the prevalence `[classes]` at the target, given weights of the source and the target images.
        labels: `[n]` int, the labels of the source images.
        source, target: Resamples of the images. A resample of the source without some class is ignored. With more than
            two classes, the intervals are wider (Bonferroni), so that `differs` has the error rate of their level.

    Returns:
        `low`, `high` and `signs` of `PrevalenceEstimate`.
    """
    classes = int(labels.max()) + 1
    values = np.full((len(source.counts), classes), np.nan)
    gaps = np.full_like(values, np.nan)
    for row, (source_counts, target_counts) in enumerate(zip(source.counts, target.counts, strict=True)):
        weights = source_counts[source.group_of].astype(np.float64)
        frequencies = class_frequencies(labels, weights, classes)
        if (frequencies > 0).all():
            values[row] = estimate(weights, target_counts[target.group_of].astype(np.float64))
            gaps[row] = values[row] - frequencies
    level = 1 - (1 - source.level) / (classes if classes > 2 else 1)
    limits = [bootstrap.interval(column, level=level) or (np.nan, np.nan) for column in (*values.T, *gaps.T)]
    low, high = np.array(limits).T
    signs = (low[classes:] > 0).astype(int) - (high[classes:] < 0)
    return low[:classes], high[:classes], signs


def correct_prevalence(probabilities: Array, source: ArrayLike, target: ArrayLike) -> Array:
    """Return `[n, classes]` float64, probabilities for a different prevalence (Saerens et al. 2002, equation 2.4).

    Args:
        probabilities: `[n, classes]`, calibrated at the source.
        source, target: `[classes]`, the prevalence at both sites, above 0 at the source.
    """
    weighted = probabilities * np.divide(target, source)
    return weighted / weighted.sum(axis=1, keepdims=True)


def em_prevalence(probabilities: Array, source: Array, weights: Array) -> Array:
    """Return the maximum likelihood prevalence `[classes]` of images, given calibrated probabilities.

    EM converges slowly if the predictions hardly depend on the class. After each two iterations, it therefore
    extrapolates, unless this reduces the likelihood.

    Args:
        probabilities: `[m, classes]`, calibrated at the source.
        source: `[classes]`, the prevalence at the source, above 0.
        weights: `[m]` weights of the images.

    Reference:
        Saerens et al. 2002, equation 2.9; extrapolation: Varadhan & Roland 2008, doi:10.1111/j.1467-9469.2007.00585.x.
    """
    ratios, normalized = probabilities / source, weights / weights.sum()

    def evidence(prevalence: Array) -> Array:
        return np.maximum((ratios * prevalence).sum(axis=1), np.finfo(np.float64).tiny)

    def iterate(prevalence: Array) -> Array:
        updated: Array = prevalence * (ratios * (normalized / evidence(prevalence))[:, None]).sum(axis=0)
        return updated / updated.sum()

    def log_likelihood(prevalence: Array) -> float:
        return float((normalized * np.log(evidence(prevalence))).sum())

    prevalence = source
    for _ in range(MAX_ITERATIONS):
        first = iterate(prevalence)
        if np.abs(first - prevalence).max() < TOLERANCE:
            return first
        second = iterate(first)
        extrapolated = _extrapolate(prevalence, first, second)
        is_better = log_likelihood(extrapolated) >= log_likelihood(second)
        prevalence = extrapolated if is_better else second
    return prevalence


def _extrapolate(start: Array, first: Array, second: Array) -> Array:
    """Extrapolate two iterations of EM. No frequency falls below a thousandth of that of the second iteration."""
    change, curvature = first - start, second - 2 * first + start
    length = np.linalg.norm(curvature)
    factor = max(1.0, float(np.linalg.norm(change) / length)) if length > 0 else 1.0
    extrapolated = np.maximum(start + 2 * factor * change + factor**2 * curvature, 1e-3 * second)
    return extrapolated / extrapolated.sum()


def bbse_prevalence(confusion: Array, predicted: Array) -> tuple[Array, str]:
    """Return the prevalence `[classes]` that explains the predictions, and the reason if there is none.

    Args:
        confusion: `[classes, classes]`, at the source: the frequency of each prediction (row) for each class (column).
        predicted: `[classes]`, the frequency of each prediction at the target.

    Returns:
        Frequencies of sum 1, with negative ones set to 0. NaN with a reason if the matrix is almost singular.
    """
    smallest = float(np.linalg.svd(confusion, compute_uv=False).min())
    if smallest < MIN_SINGULAR_VALUE:
        reason = (
            "the predictions hardly depend on the class: the confusion matrix is nearly singular "
            f"(smallest singular value {smallest:.3f}, at least {MIN_SINGULAR_VALUE} is needed)"
        )
        return np.full(len(predicted), np.nan), reason
    prevalence = np.clip(np.linalg.solve(confusion, predicted), 0.0, None)
    return prevalence / prevalence.sum(), ""


def _em_estimate(
    labels: Array, logits: Array, target: Array, weights: Array, target_weights: Array
) -> tuple[Array, str]:
    calibrated = calibrate(target, fit_calibrator(labels, logits, weights=weights))
    source = class_frequencies(labels, weights, logits.shape[1])
    return em_prevalence(calibrated, source, target_weights), ""


def _bbse_estimate(
    labels: Array, logits: Array, target: Array, weights: Array, target_weights: Array
) -> tuple[Array, str]:
    classes = logits.shape[1]
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (logits.argmax(axis=1), labels), weights)
    predicted = class_frequencies(target.argmax(axis=1), target_weights, classes)
    return bbse_prevalence(confusion / confusion.sum(axis=0), predicted)


METHODS = {"em": _em_estimate, "bbse": _bbse_estimate}


def class_frequencies(labels: Array, weights: Array, classes: int) -> Array:
    """Return `[classes]` float64, the frequency of each class with image weights `[n]`."""
    counts = np.bincount(labels, weights=weights, minlength=classes)
    return counts / counts.sum()


SOURCE = "val"
TEST = "target_test"
TARGET = (TEST, "target_unlabelled")
MAX_RESAMPLES = 200
"""Each resample fits the calibrator again."""
CORRECTION_METRICS = CALIBRATION_METRICS | {"balanced_accuracy": balanced_accuracy}
ASSUMPTION = "images of a class look the same at both sites. A different scanner violates this assumption and invalidates the estimates"


def estimate_label_shift(
    predictions: Predictions,
    *,
    seed: int,
    resamples: int,
    level: float,
    source_val: Predictions | None = None,
    training_counts: Mapping[str, int] | None = None,
) -> dict[str, Any] | None:
    """Return the entry `label_shift` of `scores.json`. None without target images or without source validation images.

    Args:
        predictions: Predictions for the source split `val` and the target splits `target_test` and `target_unlabelled`.
        seed, resamples, level: Settings of the bootstrap. At most 200 resamples are used for the prevalence.
        source_val: Predictions for the split `val` with BatchNorm statistics of the source, if the model has those of the
            target. None for those in `predictions`.
        training_counts: The number of training images of each class at the source. None if unknown.

    Returns:
        `{"assumes", "class_names", "source", "target", "classes": {name: {"train", "source", "em", "bbse", "true"}},
        "differs": {"em", "bbse"}, "correction"}`, each frequency `{"value", "low", "high"}`, or a `reason` instead.
        `true` is computed from the labels of the split `target_test`. Nothing else uses target labels.
    """
    source = bootstrap.canonical_order(
        predictions.of(SOURCE) if source_val is None else source_val, labeled=True
    )
    target = bootstrap.canonical_order(predictions.of(*TARGET))
    if not source.paths or not target.paths:
        return None
    result: dict[str, Any] = {
        "assumes": ASSUMPTION,
        "class_names": list(predictions.class_names),
        "source": _summary(source),
        "target": _summary(target),
    }
    present = set(source.labels.tolist())
    absent = [name for index, name in enumerate(predictions.class_names) if index not in present]
    if absent:
        return result | {"reason": f"no source validation image of {', '.join(absent[:5])}"}
    count = min(resamples, MAX_RESAMPLES)
    estimates = _estimates(source, target, seed=seed, resamples=count, level=level)
    true = [bootstrap.no_value(f"no labeled image in the split {TEST}")] * len(predictions.class_names)
    correction = None
    test = bootstrap.canonical_order(predictions.of(TEST), labeled=True)
    if test.paths:
        labeled_test = bootstrap.resample_predictions(test, seed=seed, resamples=resamples, level=level)
        true = _test_frequencies(labeled_test)
        correction = _correction(source, labeled_test, estimates["em"])
    return result | {
        "resamples": count,
        "classes": _classes(predictions.class_names, estimates, true, training_counts or {}),
        "differs": {name: estimate.differs for name, estimate in estimates.items()},
        "correction": correction,
    }


def _estimates(
    source: Predictions, target: Predictions, *, seed: int, resamples: int, level: float
) -> dict[str, PrevalenceEstimate]:
    """Return the estimate of each method, for the same resamples."""
    no_labels = np.zeros(len(target.paths), int)
    settings: dict[str, Any] = {"resamples": resamples, "level": level}
    drawn = (
        bootstrap.resample(bootstrap.resampling_units(source), source.labels, seed=seed, **settings),
        bootstrap.resample(bootstrap.resampling_units(target), no_labels, seed=seed + 1, **settings),
    )
    return {
        name: estimate_prevalence(source.labels, source.logits, target.logits, *drawn, method=name)
        for name in METHODS
    }


def _summary(predictions: Predictions) -> dict[str, Any]:
    return {
        "splits": sorted(set(predictions.splits)),
        "images": len(predictions.paths),
        "groups": len(set(bootstrap.resampling_units(predictions))),
    }


def _classes(
    names: Sequence[str],
    estimates: Mapping[str, PrevalenceEstimate],
    true: Sequence[dict[str, Any]],
    training_counts: Mapping[str, int],
) -> dict[str, Any]:
    source = estimates["em"].source
    total = sum(training_counts.values())
    return {
        name: {
            "train": bootstrap.counted(training_counts.get(name, 0) / total) if total else None,
            "source": bootstrap.counted(float(source[index])),
            **{method: _frequency(estimate, index) for method, estimate in estimates.items()},
            "true": true[index],
        }
        for index, name in enumerate(names)
    }


def _frequency(estimate: PrevalenceEstimate, index: int) -> dict[str, Any]:
    value, low, high = (float(column[index]) for column in (estimate.value, estimate.low, estimate.high))
    if np.isnan(value):
        return bootstrap.no_value(estimate.reason)
    if np.isnan(low):
        return bootstrap.without_interval(value, estimate.reason)
    return {"value": value, "low": low, "high": high}


def _test_frequencies(test: bootstrap.ResampledPredictions) -> list[dict[str, Any]]:
    """Return the frequencies of the test labels. Nothing else uses target labels."""
    one_hot = test.predictions.labels[:, None] == np.arange(len(test.predictions.class_names))

    # Counts are integers, so their matrix product is exact in any order.
    return test.estimate_columns(
        lambda weights: (weights @ one_hot) / weights.sum(axis=1, keepdims=True), "no images",
        trials=[bootstrap.Trials(test.groups, len(one_hot))] * one_hot.shape[1],
    )  # fmt: skip


def _correction(
    source: Predictions, test: bootstrap.ResampledPredictions, estimate: PrevalenceEstimate
) -> dict[str, Any]:
    """Return the metrics of the test images: uncalibrated, calibrated, and corrected for the prevalence.

    Calibration and prevalence are fixed during resampling, because a deployed model uses fixed values.
    """
    labels, uncalibrated = test.predictions.labels, test.predictions.uncalibrated
    calibrated = calibrate(test.predictions.logits, fit_calibrator(source.labels, source.logits))
    # A class with an estimate of 0 keeps a small frequency, so that the loss of its images is finite.
    target = np.maximum(estimate.value, 1e-6)
    corrected = correct_prevalence(calibrated, estimate.source, target / target.sum())
    difference = {
        name: bootstrap.estimate_difference(
            test, partial(metric, labels, uncalibrated), partial(metric, labels, corrected), name
        )
        for name, metric in CORRECTION_METRICS.items()
    }
    return {
        "by": "em",
        "split": TEST,
        "uncalibrated": test.score(uncalibrated, CORRECTION_METRICS),
        "calibrated": test.score(calibrated, CORRECTION_METRICS),
        "corrected": test.score(corrected, CORRECTION_METRICS),
        "difference": difference,
    }
