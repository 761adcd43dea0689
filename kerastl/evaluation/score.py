"""Score predictions: figures with intervals, overall, by class and by domain. NumPy only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from kerastl.evaluation.bootstrap import Resamples, group_names, interval, resample
from kerastl.evaluation.metrics import BY_CLASS, OVERALL, binary_auc
from kerastl.evaluation.predictions import Array, Predictions

Figure = Callable[[Array], Array]


def score(
    predictions: Predictions, *, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> dict[str, Any]:
    """Return the content of `scores.json`.

    Args:
        predictions: of any splits; unlabelled rows are not scored.
        seed: of the bootstrap.
        resamples: how many.
        level: of the intervals, 0 to 1.

    Returns:
        `{split: {"overall": M, "classes": {name: M}, "domains": {name: M}, "confusion": [[int]],
        "class_names": [...], "count", "groups"}, "interval": {...}}`, where M is
        `{metric: {"value", "low", "high"}}`, with a `"reason"` where one of them is null. Rows of the
        confusion are true classes, columns predicted ones. `group_auc` is the AUC of groups (patients),
        each with the mean probability of its pictures; it is there where groups are, and each has one label.
    """
    scores: dict[str, Any] = {}
    redrawn = 0
    for split in dict.fromkeys(predictions.splits):
        rows = [
            row
            for row, name in enumerate(predictions.splits)
            if name == split and predictions.labels[row] >= 0
        ]
        if rows:
            scores[split], again = _score_split(
                predictions.take(rows), seed=seed, resamples=resamples, level=level
            )
            redrawn += again
    scores["interval"] = {
        "method": "percentile bootstrap; groups are resampled within their domain",
        "level": level,
        "resamples": resamples,
        "seed": seed,
        "unit": "group" if any(predictions.groups) else "picture",
        "redrawn": redrawn,
    }
    return scores


def _score_split(
    one: Predictions, *, seed: int, resamples: int, level: float
) -> tuple[dict[str, Any], int]:
    drawn = _drawn(one, seed, resamples)
    names = one.class_names
    labels, probabilities = one.labels, one.probabilities
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    scored = {
        "overall": _overall(one, drawn, level),
        "classes": _classes(one, drawn, level),
        "domains": _domains(one, seed, resamples, level),
        "confusion": confusion.tolist(),
        "class_names": list(names),
        "count": len(labels),
        "groups": drawn.groups,
    }
    return scored, drawn.redrawn


def _drawn(one: Predictions, seed: int, resamples: int) -> Resamples:
    units = group_names(one.groups, one.domains, one.paths)
    return resample(units, one.domains, one.labels, seed=seed, resamples=resamples)


def _overall(one: Predictions, drawn: Resamples, level: float) -> dict[str, Any]:
    labels, probabilities = one.labels, one.probabilities
    figures: dict[str, Figure] = {
        name: partial(metric, labels, probabilities) for name, metric in OVERALL.items()
    }
    by_group = group_auc_of(one)
    if by_group is not None:
        figures["group_auc"] = by_group
    return {name: _measured(figure, drawn, level) for name, figure in figures.items()}


def group_auc_of(one: Predictions) -> Figure | None:
    """Return the AUC of groups as a function of the pictures' weights.

    None where there are no groups, more than two classes, or a group with pictures of both.
    """
    if not any(one.groups) or len(one.class_names) != 2:
        return None
    units = np.asarray(group_names(one.groups, one.domains, one.paths))
    _, first, place = np.unique(units, return_index=True, return_inverse=True)
    labels = one.labels[first]
    if (labels[place] != one.labels).any():
        return None
    sums = np.bincount(place, one.probabilities[:, 1].astype(np.float64))
    means = sums / np.bincount(place)
    return lambda weights: binary_auc(labels == 1, means, weights[:, first])


def _measured(figure: Figure, drawn: Resamples, level: float) -> dict[str, Any]:
    """Return the value on all pictures and its interval over resamples, never NaN."""
    value = float(figure(np.ones((1, drawn.weights.shape[1])))[0])
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None, "reason": "a class it needs is absent"}
    found = None if drawn.too_few else interval(figure(drawn.weights), level=level)
    if found is None:
        reason = drawn.too_few or "no resample gave a value"
        return {"value": value, "low": None, "high": None, "reason": reason}
    return {"value": value, "low": found[0], "high": found[1]}


def _classes(one: Predictions, drawn: Resamples, level: float) -> dict[str, Any]:
    labels, probabilities = one.labels, one.probabilities
    told: dict[str, Any] = {}
    for place, name in enumerate(one.class_names):
        told[name] = {}
        for metric_name, metric in BY_CLASS.items():

            def figure(weights: Array, metric: Any = metric, place: int = place) -> Array:
                column: Array = metric(labels, probabilities, weights)[:, place]
                return column

            told[name][metric_name] = _measured(figure, drawn, level)
        told[name]["support"] = {"value": int((labels == place).sum()), "low": None, "high": None}
    return told


def _domains(one: Predictions, seed: int, resamples: int, level: float) -> dict[str, Any]:
    told = {}
    for domain in sorted(set(one.domains) - {""}):
        part = one.take([row for row, name in enumerate(one.domains) if name == domain])
        told[domain] = _overall(part, _drawn(part, seed, resamples), level)
    return told
