"""Score predictions: figures with intervals, overall, by class and by domain. NumPy only."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from kerastl.evaluation.bootstrap import FEWEST_GROUPS, Figure, Resamples, interval, resample
from kerastl.evaluation.groups import group_auc_of, groups_disagree, units_of
from kerastl.evaluation.metrics import BY_CLASS, OVERALL
from kerastl.evaluation.predictions import Array, Predictions

GROUP_AUC = "group_auc"
NO_SPLIT = "all"


def score(
    predictions: Predictions, *, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> dict[str, Any]:
    """Return the content of `scores.json`; the order of rows is irrelevant.

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
        each with the mean probability of its pictures; it is there where groups are. Rows without a split
        are scored under `all`.
    """
    scores: dict[str, Any] = {}
    redrawn = 0
    for split, one in _labelled(predictions).items():
        drawn = _drawn(one, seed, resamples)
        domains, drawn_again = _domains(one, seed, resamples, level)
        scores[split] = {
            "overall": _overall(one, drawn, level),
            "classes": _classes(one, drawn, level),
            "domains": domains,
            "confusion": _confusion(one),
            "class_names": list(one.class_names),
            "count": len(one.labels),
            "groups": drawn.groups,
        }
        redrawn += drawn.redrawn + drawn_again
    scores["interval"] = {
        "method": "percentile bootstrap; groups are resampled within their domain",
        "level": level,
        "resamples": resamples,
        "seed": seed,
        "unit": "group" if any(predictions.groups) else "picture",
        "redrawn": redrawn,
    }
    return scores


def _labelled(predictions: Predictions) -> dict[str, Predictions]:
    """Return the labelled rows of each split in one order, so that sums round alike for any order."""
    units = units_of(predictions)
    rows = np.flatnonzero(predictions.labels >= 0).tolist()
    rows.sort(key=lambda row: (units[row], predictions.paths[row]))
    splits: dict[str, list[int]] = {}
    for row in rows:
        splits.setdefault(predictions.splits[row] or NO_SPLIT, []).append(row)
    return {split: predictions.take(members) for split, members in sorted(splits.items())}


def _drawn(one: Predictions, seed: int, resamples: int) -> Resamples:
    return resample(units_of(one), one.domains, one.labels, seed=seed, resamples=resamples)


def _confusion(one: Predictions) -> list[list[int]]:
    confusion = np.zeros((len(one.class_names), len(one.class_names)), int)
    np.add.at(confusion, (one.labels, one.probabilities.argmax(axis=1)), 1)
    counted: list[list[int]] = confusion.tolist()
    return counted


def figures_of(one: Predictions) -> dict[str, Figure]:
    """Return every overall figure by its name, each a function of the pictures' weights."""
    figures: dict[str, Figure] = {
        name: partial(metric, one.labels, one.probabilities) for name, metric in OVERALL.items()
    }
    if any(one.groups):
        figures[GROUP_AUC] = group_auc_of(one)
    return figures


def why_undefined(one: Predictions, metric: str) -> str:
    """Return why an overall figure has no value."""
    if metric == GROUP_AUC and groups_disagree(one):
        return "a group has pictures of more than one class"
    present = set(one.labels.tolist())
    absent = [name for place, name in enumerate(one.class_names) if place not in present]
    return f"no picture of {', '.join(absent[:5])}" if absent else "no pictures"


def why_no_interval(groups: int, of_class: str = "") -> str:
    """Return why so few groups get no interval; empty where they get one."""
    if groups >= FEWEST_GROUPS:
        return ""
    return f"{groups} groups{of_class} are fewer than {FEWEST_GROUPS}: no interval is given"


def _overall(one: Predictions, drawn: Resamples, level: float) -> dict[str, Any]:
    told = {}
    no_interval = why_no_interval(drawn.groups)
    for name, figure in figures_of(one).items():
        value = float(drawn.value(figure))
        if np.isnan(value):
            told[name] = _nothing(why_undefined(one, name))
        elif no_interval:
            told[name] = _value_only(value, no_interval)
        else:
            told[name] = _measured(value, drawn.values(figure), level)
    return told


def _classes(one: Predictions, drawn: Resamples, level: float) -> dict[str, Any]:
    told: dict[str, Any] = {name: {} for name in one.class_names}
    supports = np.bincount(one.labels, minlength=len(one.class_names)).tolist()
    for metric_name, metric in BY_CLASS.items():
        figure = partial(metric, one.labels, one.probabilities)
        values, resampled = drawn.value(figure), drawn.values(figure)
        for place, name in enumerate(one.class_names):
            groups = len(np.unique(drawn.group_of[one.labels == place]))
            no_interval = why_no_interval(groups, " of this class")
            value = float(values[place])
            if supports[place] == 0:
                told[name][metric_name] = _nothing("no picture of this class")
            elif np.isnan(value):
                other = metric_name == "auc"
                reason = "no picture of another class" if other else "the class is never predicted"
                told[name][metric_name] = _nothing(reason)
            elif no_interval:
                told[name][metric_name] = _value_only(value, no_interval)
            else:
                told[name][metric_name] = _measured(value, resampled[:, place], level)
    for name, support in zip(one.class_names, supports, strict=True):
        told[name]["support"] = _value_only(support, "counted, not estimated")
    return told


def _domains(
    one: Predictions, seed: int, resamples: int, level: float
) -> tuple[dict[str, Any], int]:
    """Return the figures of each domain, and how many resamples were drawn again for them."""
    told, redrawn = {}, 0
    for domain in sorted(set(one.domains) - {""}):
        part = one.take([row for row, name in enumerate(one.domains) if name == domain])
        drawn = _drawn(part, seed, resamples)
        told[domain] = _overall(part, drawn, level)
        redrawn += drawn.redrawn
    return told, redrawn


def _nothing(reason: str) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "reason": reason}


def _value_only(value: float, reason: str) -> dict[str, Any]:
    return {"value": value, "low": None, "high": None, "reason": reason}


def _measured(value: float, resampled: Array, level: float) -> dict[str, Any]:
    found = interval(resampled, level=level)
    if found is None:
        return _value_only(value, "it is undefined in most resamples")
    return {"value": value, "low": found[0], "high": found[1]}
