"""The difference between two models on the same pictures, with its interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import group_names, interval, resample
from kerastl.evaluation.metrics import OVERALL
from kerastl.evaluation.predictions import Array, Predictions
from kerastl.evaluation.score import Figure, group_auc_of

LOWER_IS_BETTER = ("log_loss",)


def paired_difference(
    first: Predictions,
    second: Predictions,
    *,
    metric: str = "auc",
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Return `second` minus `first`, resampled together.

    Args:
        first, second: answers of two models for the same labelled pictures in the same order.
        metric: `group_auc` or an overall figure.
        seed, resamples, level: of the bootstrap.

    Returns:
        `{"value", "low", "high", "outcome"}`; the outcome is `better` or `worse` where the interval leaves
        out zero, else `cannot_tell`, with a `"reason"` where no interval could be made.

    Raises:
        RequestError: the pictures differ, or the metric is unknown.
    """
    if first.paths != second.paths or not np.array_equal(first.labels, second.labels):
        raise RequestError("The two models were not judged on the same pictures.")
    units = group_names(first.groups, first.domains, first.paths)
    drawn = resample(units, first.domains, first.labels, seed=seed, resamples=resamples)
    before, after = _figure(first, metric), _figure(second, metric)
    whole = np.ones((1, len(first.labels)))
    value = float((after(whole) - before(whole))[0])
    if not np.isfinite(value):
        return _untold(None, "a class it needs is absent")
    if drawn.too_few:
        return _untold(value, drawn.too_few)
    found = interval(after(drawn.weights) - before(drawn.weights), level=level)
    if found is None:
        return _untold(value, "no resample gave a value")
    low, high = found
    outcome = "cannot_tell"
    if low > 0 or high < 0:
        outcome = "better" if (value > 0) != (metric in LOWER_IS_BETTER) else "worse"
    return {"value": value, "low": low, "high": high, "outcome": outcome}


def _untold(value: float | None, reason: str) -> dict[str, Any]:
    return {"value": value, "low": None, "high": None, "outcome": "cannot_tell", "reason": reason}


def _figure(predictions: Predictions, metric: str) -> Figure:
    if metric == "group_auc":
        figure = group_auc_of(predictions)
        if figure is None:
            raise RequestError("group_auc needs two classes and groups of one label each.")
        return figure
    if metric not in OVERALL:
        known = ", ".join(["group_auc", *OVERALL])
        raise RequestError(f"There is no metric '{metric}'. Known: {known}.")

    def of_pictures(weights: Array) -> Array:
        return OVERALL[metric](predictions.labels, predictions.probabilities, weights)

    return of_pictures
