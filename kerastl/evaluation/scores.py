"""Scores with confidence intervals: overall, by class and by domain. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from kerastl.evaluation import bootstrap
from kerastl.evaluation.label_shift import estimate_label_shift
from kerastl.evaluation.metrics import BY_CLASS
from kerastl.evaluation.operating_points import Parts, clinical_scores, fit_on_validation, overall_and_domains
from kerastl.evaluation.predictions import Array, Predictions
from kerastl.evaluation.subgroups import assign_subgroups, clean_columns, sort_values
from kerastl.options import checked
from kerastl.recipe import Seed
from kerastl.runs import Scores

NO_SPLIT = "all"
MIN_CLASS_IMAGES = 5
"""The scores of a class with fewer images are reported with a warning."""
METHOD = (
    "percentile bootstrap; groups are resampled within their domain. Proportions, and scores whose resamples reach 0 or 1: "
    "Clopper-Pearson with the effective number of groups (Korn & Graubard 1998)"
)
Resample = Callable[[Predictions], bootstrap.ResampledPredictions]


@checked
def score(
    predictions: Predictions,
    *,
    seed: Seed = 0,
    resamples: bootstrap.Resamplings = 1000,
    level: bootstrap.Rate = 0.95,
    positive: str | None = None,
    specificity: bootstrap.Rate = 0.9,
    sensitivity: bootstrap.Rate = 0.9,
    subgroups: Mapping[str, Sequence[Any]] | None = None,
    source_val: Predictions | None = None,
    training_counts: Mapping[str, int] | None = None,
    stored_fit: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of `scores.json`. The order of the images does not matter.

    Args:
        predictions: Predictions of any splits. Unlabeled images are not scored. The scores use their `probabilities`;
            only `calibration`, `reliability` and `label_shift` use the `logits`, without and with a calibration.
        seed, resamples, level: Settings of the bootstrap. The confidence level is from 0 to 1.
        positive: The positive class. None for the last of two classes, and for no positive class with more.
        specificity, sensitivity: The minimum rates of the two operating points, 0 to 1.
        subgroups: Columns to score by, e.g. `{"sex": ["f", "m", ...]}`, with a string or a number for each image, in
            addition to those in the predictions. See `assign_subgroups`. As in a table, `nan`, `N/A` and so on are missing,
            and a number may be written in several formats; other spellings of one value are rejected.
        source_val, training_counts: As in `estimate_label_shift`.
        stored_fit: Temperature and thresholds to use without validation images, see `fit_on_validation`.

    Returns:
        `{split: {"overall": M, "classes": {name: M}, "domains": {name: M}, "confusion": [[int]], "class_names": [...],
        "count", "groups", ...}, "interval": {...}}`, where M is `{metric: {"value", "low", "high"}}`, with a `"reason"` if
        one of them is null. Rows of the confusion matrix are true classes, columns are predicted classes. `group_auc` is
        the AUC of groups (patients), each with the mean probability of its images. Images without a split are scored
        as `all`. `clinical_scores` adds results with thresholds and temperature of the split `val`. With subgroup columns,
        a split has `subgroups`: `{column: {value: M}}`; with classes of fewer than five images, it has `small_classes`:
        `{name: count}`. With target images, `label_shift` is the result of `estimate_label_shift`.

    Raises:
        RequestError: If there is no class `positive`, or if a column cannot be divided into subgroups, or has two
            spellings of one value.

    Example:
    ```python
    predictions = kerastl.evaluation.read_predictions(Path("runs/mine/predictions.csv"))
    kerastl.evaluation.score(predictions)["test"]["overall"]["auc"]
    ```
    """
    is_training = [split == "train" for split in predictions.splits]
    given = clean_columns({} if subgroups is None else subgroups)
    columns = assign_subgroups({**predictions.subgroups, **given}, is_training)
    predictions = predictions.with_subgroups(columns)
    labeled = _labeled_splits(predictions)
    fit = fit_on_validation(
        labeled, predictions.class_names,
        positive=positive, specificity=specificity, sensitivity=sensitivity, stored_fit=stored_fit,
    )  # fmt: skip
    settings: dict[str, Any] = {"seed": seed, "resamples": resamples, "level": level}
    resample = partial(bootstrap.resample_predictions, **settings)
    parts = {split: _parts(members, resample) for split, members in labeled.items()}
    scores: dict[str, Any] = {
        split: _split_scores(of_split, resample) | clinical_scores(of_split, fit)
        for split, of_split in parts.items()
    }
    redrawn = sum(part.redrawn for of_split in parts.values() for part in of_split.values())
    if shift := estimate_label_shift(
        predictions, source_val=source_val, training_counts=training_counts, **settings
    ):
        scores["label_shift"] = shift
    unit = "group" if any(predictions.groups) else "image"
    return scores | {"interval": {"method": METHOD, **settings, "unit": unit, "redrawn": redrawn}}


def _parts(split: Predictions, resample: Resample) -> Parts:
    """Return a whole split as None, and each of its domains by name."""
    parts: dict[str | None, bootstrap.ResampledPredictions] = {None: resample(split)}
    for domain in sorted(set(split.domains) - {""}):
        rows = [row for row, name in enumerate(split.domains) if name == domain]
        # A domain that is the whole split is not resampled again.
        parts[domain] = resample(split.take(rows)) if len(rows) < len(split.domains) else parts[None]
    return parts


def _split_scores(parts: Parts, resample: Resample) -> dict[str, Any]:
    whole = parts[None]
    split = whole.predictions
    by_column, small = _subgroups(split, resample), _small_classes(split)
    return {
        **overall_and_domains(parts, _overall),
        "classes": _classes(whole),
        "confusion": _confusion(split),
        "class_names": list(split.class_names),
        "count": len(split.labels),
        "groups": whole.groups,
        **({"subgroups": by_column} if by_column else {}),
        **({"small_classes": small} if small else {}),
    }


def _small_classes(split: Predictions) -> dict[str, int]:
    """Return the number of images of each class that has fewer than five."""
    counts = np.bincount(split.labels, minlength=len(split.class_names)).tolist()
    return {
        name: count for name, count in zip(split.class_names, counts, strict=True) if count < MIN_CLASS_IMAGES
    }


def small_class_warnings(scores: Scores) -> list[str]:
    """Return one line for each test split in which some class has fewer than five images.

    Args:
        scores: The content of `scores.json`.
    """
    return [
        f"Few images in {name}: "
        + ", ".join(f"{class_name} {count}" for class_name, count in split.small_classes.items())
        + f" (fewer than {MIN_CLASS_IMAGES}). The scores of these classes are unreliable."
        for name, split in scores.test_splits.items()
        if split.small_classes
    ]


def _labeled_splits(predictions: Predictions) -> dict[str, Predictions]:
    """Return the labeled images of each split in a canonical order, so that sums have the same rounding for any order."""
    ordered = bootstrap.canonical_order(predictions, labeled=True)
    splits: dict[str, list[int]] = {}
    for row, split in enumerate(ordered.splits):
        splits.setdefault(split or NO_SPLIT, []).append(row)
    return {split: ordered.take(members) for split, members in sorted(splits.items())}


def _confusion(split: Predictions) -> list[list[int]]:
    confusion = np.zeros((len(split.class_names), len(split.class_names)), int)
    np.add.at(confusion, (split.labels, split.probabilities.argmax(axis=1)), 1)
    return confusion.tolist()


def _overall(part: bootstrap.ResampledPredictions) -> dict[str, Any]:
    split = part.predictions
    return {
        name: part.estimate_metric(
            name, statistic, split.probabilities, bootstrap.undefined_reason(split, name)
        )
        for name, statistic in bootstrap.overall_statistics(split).items()
    }


def _classes(part: bootstrap.ResampledPredictions) -> dict[str, Any]:
    split = part.predictions
    scores: dict[str, Any] = {name: {} for name in split.class_names}
    is_class = [split.labels == index for index in range(len(split.class_names))]
    groups = [part.count_groups(rows) for rows in is_class]
    predicted = split.probabilities.argmax(axis=1)
    for metric_name, metric in BY_CLASS.items():
        statistic = partial(metric, split.labels, split.probabilities)
        values, resampled = part.value(statistic), part.values(statistic)
        undefined = "no image of another class" if metric_name == "auc" else "the class is never predicted"
        for index, name in enumerate(split.class_names):
            scores[name][metric_name] = bootstrap.make_estimate(
                float(values[index]) if groups[index] else math.nan, resampled[:, index], part.level,
                undefined=undefined if groups[index] else "no image of this class",
                no_interval=bootstrap.no_interval_reason(groups[index], " of this class", unit=part.unit),
                trials=_class_trials(part, metric_name, is_class[index], predicted == index),
            )  # fmt: skip
    for name, rows in zip(split.class_names, is_class, strict=True):
        scores[name]["support"] = bootstrap.counted(int(rows.sum()))
    return scores


def _class_trials(
    part: bootstrap.ResampledPredictions, metric: str, is_class: Array, is_predicted: Array
) -> bootstrap.Trials:
    """Return the sample size of a metric of one class, given its images and those predicted as it."""
    groups = part.count_groups(is_class)
    if metric == "precision":
        return bootstrap.Trials(part.count_groups(is_predicted), int(is_predicted.sum()))
    if metric == "auc":
        return bootstrap.Trials(min(groups, part.count_groups(~is_class)))
    return bootstrap.Trials(groups, int(is_class.sum()) if metric == "recall" else None)


def _subgroups(split: Predictions, resample: Resample) -> dict[str, Any]:
    """Return every overall metric and the numbers of images and groups by column and value."""
    scores: dict[str, Any] = {}
    for column, values in split.subgroups.items():
        scores[column] = {}
        for value in sort_values(values):
            part = resample(split.take([row for row, own in enumerate(values) if own == value]))
            scores[column][value] = {
                "images": bootstrap.counted(len(part.predictions.paths)),
                "groups": bootstrap.counted(part.groups),
                **_overall(part),
            }
    return scores
