"""The difference between two models on the same images, with its interval."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import (
    UNDEFINED,
    Statistic,
    Part,
    group_auc_statistic,
    groups_disagree,
    interval,
    resampled_part,
    resampling_units,
)
from kerastl.evaluation.metrics import OVERALL
from kerastl.evaluation.predictions import Predictions

GROUP_AUC = "group_auc"


def overall_statistics(one: Predictions) -> dict[str, Statistic]:
    """Return every overall figure by its name, each a function of the images' weights."""
    figures: dict[str, Statistic] = {
        name: partial(metric, one.labels, one.probabilities) for name, metric in OVERALL.items()
    }
    if any(one.groups):
        figures[GROUP_AUC] = group_auc_statistic(one)
    return figures


def undefined_reason(one: Predictions, metric: str) -> str:
    """Return why an overall figure has no value."""
    if metric == GROUP_AUC and groups_disagree(one):
        return "a group has images of more than one class"
    present = set(one.labels.tolist())
    absent = [name for place, name in enumerate(one.class_names) if place not in present]
    return f"no image of {', '.join(absent[:5])}" if absent else "no images"


LOWER_IS_BETTER = ("log_loss", "ece", "brier")


def paired_difference(
    first: Predictions,
    second: Predictions,
    *,
    metric: str = "auc",
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Return `second` minus `first`, both resampled alike.

    Args:
        first, second: answers of two models for the same images, in any order; rows without a
            label are left out.
        metric: `group_auc` or another overall figure of `score`.
        seed, resamples, level: of the bootstrap.

    Returns:
        `{"value", "low", "high", "outcome", "redrawn"}`; the outcome is `better` (the second model) or `worse` where
        the interval leaves out zero, else `cannot_tell`, with a `"reason"` instead of `"redrawn"` (resamples
        of one class only, drawn again) where no interval could be made.

    Raises:
        RequestError: the images, their labels or the classes differ, or the metric is unknown.
    """
    first, second = _ordered(first), _ordered(second)
    _check_alike(first, second)
    before, after = overall_statistics(first), overall_statistics(second)
    if metric not in before:
        raise RequestError(f"There is no metric '{metric}' here. Known: {', '.join(before)}.")
    part = resampled_part(first, seed=seed, resamples=resamples, level=level)
    undefined = undefined_reason(first, metric)
    return estimate_difference(part, before[metric], after[metric], metric, undefined=undefined)


def estimate_difference(
    part: Part, before: Statistic, after: Statistic, metric: str, *, undefined: str = "no images"
) -> dict[str, Any]:
    """Return one figure minus another of the same images, both resampled alike, as `paired_difference` does.

    Args:
        part: the images.
        before, after: the figure of each of two answers to them.
        metric: its name, which says whether less is better.
        undefined: the reason where it has no value.
    """
    drawn = part.drawn
    value = float(drawn.value(after) - drawn.value(before))
    if np.isnan(value):
        return _untold(None, undefined)
    if part.no_interval:
        return _untold(value, part.no_interval)
    found = interval(drawn.values(after) - drawn.values(before), level=part.level)
    if found is None:
        return _untold(value, UNDEFINED)
    low, high = found
    outcome = _outcome(low, high, metric)
    return {"value": value, "low": low, "high": high, "outcome": outcome, "redrawn": drawn.redrawn}


def _ordered(one: Predictions) -> Predictions:
    units = resampling_units(one)
    rows = np.flatnonzero(one.labels >= 0).tolist()
    return one.take(sorted(rows, key=lambda row: (units[row], one.paths[row])))


def _check_alike(first: Predictions, second: Predictions) -> None:
    if first.class_names != second.class_names:
        raise RequestError("The two models were not judged on the same classes.")
    same_images = first.paths == second.paths and resampling_units(first) == resampling_units(second)
    if not same_images or not np.array_equal(first.labels, second.labels):
        raise RequestError("The two models were not judged on the same images.")


def _outcome(low: float, high: float, metric: str) -> str:
    if low <= 0 <= high:
        return "cannot_tell"
    return "better" if (low > 0) != (metric in LOWER_IS_BETTER) else "worse"


def _untold(value: float | None, reason: str) -> dict[str, Any]:
    return {"value": value, "low": None, "high": None, "outcome": "cannot_tell", "reason": reason}
