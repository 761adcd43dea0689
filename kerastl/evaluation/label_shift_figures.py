"""How common each class is at the target, told from pictures without labels, and what knowing it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kerastl.evaluation.calibrator import fit_calibrator
from kerastl.evaluation.compare import difference_of
from kerastl.evaluation.groups import units_of
from kerastl.evaluation.label_shift import Method, Prevalence, corrected, estimate_prevalence
from kerastl.evaluation.measured import COUNTED, Part, nothing, part_of, value_only
from kerastl.evaluation.metrics import balanced_accuracy, brier, ece, log_loss
from kerastl.evaluation.predictions import Array, Predictions
from kerastl.evaluation.temperature import log_of

SOURCE = "val"
TEST = "target_test"
TARGET = (TEST, "target_unlabelled")
METHODS: tuple[Method, ...] = ("em", "bbse")
MOST_RESAMPLES = 200
"""Each fits the calibrator anew."""
FIGURES = {
    "ece": ece, "brier": brier, "log_loss": log_loss, "balanced_accuracy": balanced_accuracy,
}  # fmt: skip
ASSUMES = (
    "the pictures of a class look alike at both sites; another scanner breaks that, and the estimates are then "
    "those of a model that is deceived"
)


@dataclass(frozen=True)
class _Sites:
    """What the estimates are made from; no label of `target` is read."""

    source: Predictions
    target: Predictions
    test: Predictions


def label_shift_of(
    predictions: Predictions,
    *,
    seed: int,
    resamples: int,
    level: float,
    source_val: Predictions | None = None,
    learnt_from: Mapping[str, int] | None = None,
) -> dict[str, Any] | None:
    """Return what `scores.json` says of prevalence at the target; None where it is not asked.

    Args:
        predictions: of the source's split `val`, and of the target's splits `target_test` and `target_unlabelled`.
        seed, resamples, level: of the intervals; at most 200 resamples estimate a prevalence.
        source_val: the split `val` as the model answers with BatchNorm's statistics of the source, where its own are
            the target's; None: that in `predictions`.
        learnt_from: how many training pictures of the source each class has; None: not known.

    Returns:
        `{"assumes", "class_names", "source", "target", "classes": {name: {"train", "source", "em", "bbse", "true"}}, "differs":
        {"em", "bbse"}, "correction"}`, each share `{"value", "low", "high"}`; or why there is none under `reason`.
        `true` is read from the labels of the split `target_test`; nothing else reads one of the target.
    """
    found = _sites(predictions, source_val)
    if found is None:
        return None
    told: dict[str, Any] = {
        "assumes": ASSUMES,
        "class_names": list(predictions.class_names),
        "source": _described(found.source),
        "target": _described(found.target),
    }
    lacking = _lacking(found.source)
    if lacking:
        return told | {"reason": lacking}
    drawn = partial(part_of, seed=seed, resamples=resamples, level=level)
    estimates = {
        name: estimate_prevalence(
            found.source.labels, log_of(found.source.probabilities),
            log_of(found.target.probabilities), method=name,
            source_units=units_of(found.source), target_units=units_of(found.target),
            seed=seed, resamples=min(resamples, MOST_RESAMPLES), level=level,
        )
        for name in METHODS
    }  # fmt: skip
    test = drawn(found.test) if found.test.paths else None
    told |= {
        "resamples": min(resamples, MOST_RESAMPLES),
        "classes": _classes(predictions.class_names, estimates, test, learnt_from or {}),
        "differs": {name: one.differs for name, one in estimates.items()},
    }
    return told | {"correction": _correction(found.source, test, estimates["em"])}


def _sites(predictions: Predictions, source_val: Predictions | None) -> _Sites | None:
    """Return the pictures of both sites in one order; None for a run without a target, or without a source."""
    source = _ordered(predictions.of(SOURCE) if source_val is None else source_val, labelled=True)
    at_target = [row for row, split in enumerate(predictions.splits) if split in TARGET]
    if not source.paths or not at_target:
        return None
    target = predictions.take(at_target)
    return _Sites(source, _ordered(target), _ordered(predictions.of(TEST), labelled=True))


def _ordered(one: Predictions, *, labelled: bool = False) -> Predictions:
    """Return the rows, or those with a label, in an order that does not depend on how they came."""
    units = units_of(one)
    rows = [row for row in range(len(one.paths)) if not labelled or one.labels[row] >= 0]
    return one.take(sorted(rows, key=lambda row: (units[row], one.paths[row])))


def _described(one: Predictions) -> dict[str, Any]:
    return {
        "splits": sorted(set(one.splits)),
        "pictures": len(one.paths),
        "groups": len(set(units_of(one))),
    }


def _lacking(source: Predictions) -> str:
    present = set(source.labels.tolist())
    absent = [name for place, name in enumerate(source.class_names) if place not in present]
    return f"no validation picture of {', '.join(absent[:5])} at the source" if absent else ""


def _classes(
    names: Sequence[str],
    estimates: Mapping[Method, Prevalence],
    test: Part | None,
    learnt_from: Mapping[str, int],
) -> dict[str, Any]:
    source = estimates["em"].source
    total = sum(learnt_from.values())
    true = _true_shares(test, len(names))
    return {
        name: {
            "train": value_only(learnt_from.get(name, 0) / total, COUNTED) if total else None,
            "source": value_only(float(source[place]), COUNTED),
            **{method: _share(one, place) for method, one in estimates.items()},
            "true": true[place],
        }
        for place, name in enumerate(names)
    }


def _share(one: Prevalence, place: int) -> dict[str, Any]:
    value, low, high = (float(column[place]) for column in (one.value, one.low, one.high))
    if np.isnan(value):
        return nothing(one.reason)
    if np.isnan(low):
        return value_only(value, one.reason)
    return {"value": value, "low": low, "high": high}


def _true_shares(test: Part | None, classes: int) -> list[dict[str, Any]]:
    """Return the shares of the test labels: the one place where a label of the target is read."""
    if test is None:
        return [nothing(f"no labelled picture in the split {TEST}")] * classes
    truth = test.predictions.labels[:, None] == np.arange(classes)

    def shares(weights: Array) -> Array:
        # Counts are whole numbers: a matrix product of them is exact in any order.
        found: Array = (weights @ truth.astype(np.float64)) / weights.sum(axis=1, keepdims=True)
        return found

    return test.tell_columns(shares, "no pictures")


def _correction(source: Predictions, test: Part | None, found: Prevalence) -> dict[str, Any] | None:
    """Return the figures of the test pictures as told, calibrated on the source, and corrected for the prevalence.

    Calibrator and prevalence stay as they are in every resample: they are what one would ship.
    """
    if test is None:
        return None
    one = test.predictions
    calibrator = fit_calibrator(source.labels, log_of(source.probabilities))
    calibrated = calibrator.probabilities(log_of(one.probabilities))
    # A class that EM takes for absent keeps a trace, so that a picture of it costs much, not infinitely much.
    target = np.maximum(found.value, 1e-6)
    ways = {
        "as_told": one.probabilities,
        "calibrated": calibrated,
        "corrected": corrected(calibrated, found.source, target / target.sum()),
    }
    figures = {
        way: {name: partial(metric, one.labels, told) for name, metric in FIGURES.items()}
        for way, told in ways.items()
    }
    told = {
        way: {name: test.tell(figure, "no pictures") for name, figure in some.items()}
        for way, some in figures.items()
    }
    difference = {
        name: difference_of(test, figures["as_told"][name], figures["corrected"][name], name)
        for name in FIGURES
    }
    return {"by": "em", "split": TEST, **told, "difference": difference}
