"""Score predictions: figures with intervals, overall, by class and by domain. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from kerastl.evaluation.bootstrap import (
    Part,
    with_interval,
    no_value,
    resampled_part,
    resampling_units,
    without_interval,
    no_interval_reason,
)
from kerastl.evaluation.compare import overall_statistics, undefined_reason
from kerastl.evaluation.label_shift import estimate_label_shift
from kerastl.evaluation.metrics import BY_CLASS
from kerastl.evaluation.operating_points import fit_on_validation, overall_and_domains, clinical_scores
from kerastl.evaluation.predictions import Predictions
from kerastl.evaluation.subgroups import assign_subgroups, subgroup_scores

NO_SPLIT = "all"


def score(
    predictions: Predictions,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
    positive: str | None = None,
    specificity: float = 0.9,
    sensitivity: float = 0.9,
    subgroups: Mapping[str, Sequence[Any]] | None = None,
    source_val: Predictions | None = None,
    training_counts: Mapping[str, int] | None = None,
    elsewhere: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of `scores.json`; the order of rows is irrelevant.

    Args:
        predictions: of any splits; unlabelled rows are not scored.
        seed, resamples, level: of the bootstrap and its intervals; the level is 0 to 1.
        positive: the class that a test looks for; None: the last of two, and none of more.
        specificity, sensitivity: the least of one that is held where the other is told, 0 to 1.
        subgroups: columns to score by, as `{"sex": ["f", "m", ...]}`: a text or a number for each row of `predictions`,
            beside those that the predictions hold; see `assign_subgroups`.
        source_val, learnt_from: as in `estimate_label_shift`.
        elsewhere: what validation fixed where its images are not at hand, see `fit_on_validation`.

    Returns:
        `{split: {"overall": M, "classes": {name: M}, "domains": {name: M}, "confusion": [[int]],
        "class_names": [...], "count", "groups", ...}, "interval": {...}}`, where M is
        `{metric: {"value", "low", "high"}}`, with a `"reason"` where one of them is null. Rows of the
        confusion are true classes, columns predicted ones. `group_auc` is the AUC of groups (patients),
        each with the mean probability of its images; it is there where groups are. Rows without a split
        are scored under `all`. What `clinical_scores` adds to each split takes thresholds and temperature
        from the split `val`. `{column: {value: M}}` stands under `subgroups` of a split where there are columns.
        What `estimate_label_shift` returns stands under `label_shift` where there are images of a target.

    Raises:
        RequestError: no class is called `positive`, or a column makes no subgroups.
    """
    predictions = _with_subgroups(predictions, subgroups or {})
    labelled = _labelled(predictions)
    carried = fit_on_validation(
        labelled, predictions.class_names,
        positive=positive, specificity=specificity, sensitivity=sensitivity, elsewhere=elsewhere,
    )  # fmt: skip
    how: dict[str, Any] = {"seed": seed, "resamples": resamples, "level": level}
    drawn = partial(resampled_part, **how)
    parts = {split: _parts(one, drawn) for split, one in labelled.items()}
    scores: dict[str, Any] = {
        split: _split(whole_and_domains, drawn) | clinical_scores(whole_and_domains, carried)
        for split, whole_and_domains in parts.items()
    }
    shift = estimate_label_shift(predictions, source_val=source_val, training_counts=training_counts, **how)
    if shift is not None:
        scores["label_shift"] = shift
    redrawn = sum(one.drawn.redrawn for some in parts.values() for one in some.values())
    return scores | {"interval": _interval(predictions, redrawn, how)}


def _interval(predictions: Predictions, redrawn: int, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the intervals were made."""
    return {
        "method": "percentile bootstrap; groups are resampled within their domain",
        **how,
        "unit": "group" if any(predictions.groups) else "image",
        "redrawn": redrawn,
    }


def _with_subgroups(predictions: Predictions, more: Mapping[str, Sequence[Any]]) -> Predictions:
    """Return the predictions with a subgroup of each row by every column."""
    learnt = [split == "train" for split in predictions.splits]
    return predictions.with_subgroups(assign_subgroups({**predictions.subgroups, **more}, learnt))


def _parts(one: Predictions, drawn: Callable[[Predictions], Part]) -> dict[str | None, Part]:
    """Return a split as a whole, under None, and each of its domains."""
    parts: dict[str | None, Part] = {None: drawn(one)}
    for domain in sorted(set(one.domains) - {""}):
        rows = [row for row, name in enumerate(one.domains) if name == domain]
        # A domain that is the whole split is drawn like it: nothing is computed twice.
        parts[domain] = drawn(one.take(rows)) if len(rows) < len(one.domains) else parts[None]
    return parts


def _split(parts: dict[str | None, Part], drawn: Callable[[Predictions], Part]) -> dict[str, Any]:
    whole = parts[None]
    one = whole.predictions
    by_column = subgroup_scores(one, one.subgroups, drawn, _overall)
    return {
        **overall_and_domains(parts, _overall),
        "classes": _classes(whole),
        "confusion": _confusion(one),
        "class_names": list(one.class_names),
        "count": len(one.labels),
        "groups": whole.drawn.groups,
        **({"subgroups": by_column} if by_column else {}),
    }


def _labelled(predictions: Predictions) -> dict[str, Predictions]:
    """Return the labelled rows of each split in one order, so that sums round alike for any order."""
    units = resampling_units(predictions)
    rows = np.flatnonzero(predictions.labels >= 0).tolist()
    rows.sort(key=lambda row: (units[row], predictions.paths[row]))
    splits: dict[str, list[int]] = {}
    for row in rows:
        splits.setdefault(predictions.splits[row] or NO_SPLIT, []).append(row)
    return {split: predictions.take(members) for split, members in sorted(splits.items())}


def _confusion(one: Predictions) -> list[list[int]]:
    confusion = np.zeros((len(one.class_names), len(one.class_names)), int)
    np.add.at(confusion, (one.labels, one.probabilities.argmax(axis=1)), 1)
    counted: list[list[int]] = confusion.tolist()
    return counted


def _overall(part: Part) -> dict[str, Any]:
    one = part.predictions
    return {name: part.tell(figure, undefined_reason(one, name)) for name, figure in overall_statistics(one).items()}


def _classes(part: Part) -> dict[str, Any]:
    one, drawn, level = part.predictions, part.drawn, part.level
    told: dict[str, Any] = {name: {} for name in one.class_names}
    supports = np.bincount(one.labels, minlength=len(one.class_names)).tolist()
    for metric_name, metric in BY_CLASS.items():
        figure = partial(metric, one.labels, one.probabilities)
        values, resampled = drawn.value(figure), drawn.values(figure)
        for place, name in enumerate(one.class_names):
            groups = len(np.unique(drawn.group_of[one.labels == place]))
            no_interval = no_interval_reason(groups, " of this class")
            value = float(values[place])
            if supports[place] == 0:
                told[name][metric_name] = no_value("no image of this class")
            elif np.isnan(value):
                other = metric_name == "auc"
                reason = "no image of another class" if other else "the class is never predicted"
                told[name][metric_name] = no_value(reason)
            elif no_interval:
                told[name][metric_name] = without_interval(value, no_interval)
            else:
                told[name][metric_name] = with_interval(value, resampled[:, place], level)
    for name, support in zip(one.class_names, supports, strict=True):
        told[name]["support"] = without_interval(support, "counted, not estimated")
    return told
