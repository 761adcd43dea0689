"""The difference between two models on the same images, with its interval."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import (
    UNDEFINED,
    ResampledPredictions,
    Statistic,
    canonical_order,
    group_auc_statistic,
    groups_disagree,
    interval,
    resample_predictions,
    resampling_units,
)
from kerastl.evaluation.metrics import OVERALL
from kerastl.evaluation.predictions import Predictions

GROUP_AUC = "group_auc"
LOWER_IS_BETTER = ("log_loss", "ece", "brier")


def overall_statistics(predictions: Predictions) -> dict[str, Statistic]:
    """Return every overall metric by name, as a function of the weights of the images."""
    statistics: dict[str, Statistic] = {
        name: partial(metric, predictions.labels, predictions.probabilities)
        for name, metric in OVERALL.items()
    }
    if any(predictions.groups):
        statistics[GROUP_AUC] = group_auc_statistic(predictions)
    return statistics


def undefined_reason(predictions: Predictions, metric: str) -> str:
    """Return why an overall metric is undefined."""
    if metric == GROUP_AUC and groups_disagree(predictions):
        return "a group has images of more than one class"
    present = set(predictions.labels.tolist())
    absent = [name for index, name in enumerate(predictions.class_names) if index not in present]
    return f"no image of {', '.join(absent[:5])}" if absent else "no images"


def paired_difference(
    first: Predictions,
    second: Predictions,
    *,
    metric: str = "auc",
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Return the metric of `second` minus that of `first`, resampled together.

    Args:
        first, second: Predictions of two models for the same images, in any order. Unlabeled images are ignored.
        metric: `group_auc` or another overall metric of `score`.
        seed, resamples, level: Settings of the bootstrap.

    Returns:
        `{"value", "low", "high", "outcome", "redrawn"}`. The outcome is `better` (the second model) or `worse` if the
        interval excludes zero, else `cannot_tell`. Without an interval, it is `cannot_tell` with a `"reason"` instead of
        `"redrawn"`, the number of resamples with a single class that were drawn again.

    Raises:
        RequestError: If the images, their labels or the classes differ, or if the metric is unknown.
    """
    first, second = canonical_order(first, labeled=True), canonical_order(second, labeled=True)
    _check_same_images(first, second)
    before, after = overall_statistics(first), overall_statistics(second)
    if metric not in before:
        raise RequestError(f"There is no metric '{metric}'. Available: {', '.join(before)}.")
    part = resample_predictions(first, seed=seed, resamples=resamples, level=level)
    undefined = undefined_reason(first, metric)
    return estimate_difference(part, before[metric], after[metric], metric, undefined=undefined)


def estimate_difference(
    part: ResampledPredictions,
    before: Statistic,
    after: Statistic,
    metric: str,
    *,
    undefined: str = "no images",
) -> dict[str, Any]:
    """Return the difference of a metric between two sets of predictions, as `paired_difference` does.

    Args:
        part: The images.
        before, after: The metric for each set of predictions.
        metric: Name of the metric, which determines whether lower is better.
        undefined: The reason to report if it is undefined.
    """
    resamples = part.resamples
    value = float(resamples.value(after) - resamples.value(before))
    if np.isnan(value):
        return _inconclusive(None, undefined)
    if part.no_interval:
        return _inconclusive(value, part.no_interval)
    limits = interval(resamples.values(after) - resamples.values(before), level=part.level)
    if limits is None:
        return _inconclusive(value, UNDEFINED)
    low, high = limits
    outcome = _outcome(low, high, metric)
    return {"value": value, "low": low, "high": high, "outcome": outcome, "redrawn": resamples.redrawn}


def _check_same_images(first: Predictions, second: Predictions) -> None:
    if first.class_names != second.class_names:
        raise RequestError("The two models have different classes. Compare models with the same classes.")
    same_images = first.paths == second.paths and resampling_units(first) == resampling_units(second)
    if not same_images or not np.array_equal(first.labels, second.labels):
        raise RequestError(
            "The two models were evaluated on different images. Compare models on the same test images."
        )


def _outcome(low: float, high: float, metric: str) -> str:
    if low <= 0 <= high:
        return "cannot_tell"
    return "better" if (low > 0) != (metric in LOWER_IS_BETTER) else "worse"


def _inconclusive(value: float | None, reason: str) -> dict[str, Any]:
    return {"value": value, "low": None, "high": None, "outcome": "cannot_tell", "reason": reason}
