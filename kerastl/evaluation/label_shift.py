"""How common each class is at a target without labels, where only that differs from the source.

The assumption, label shift, is that the images of a class look alike at both sites: p(image | class) is the same,
p(class) is not. Another scanner breaks it; then the answer is that of a model that is deceived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import (
    COUNTED,
    UNDEFINED,
    Part,
    Resamples,
    interval,
    no_value,
    resampled_part,
    resample,
    resampling_units,
    without_interval,
    no_interval_reason,
)
from kerastl.evaluation.calibration import Calibrator, fit_calibrator, logits_from
from kerastl.evaluation.compare import estimate_difference
from kerastl.evaluation.metrics import balanced_accuracy, brier, ece, log_loss
from kerastl.evaluation.predictions import Array, Predictions

Method = Literal["em", "bbse"]

MOST_ROUNDS = 10_000
SETTLED = 1e-7
SMALLEST_SINGULAR = 0.05
"""Of the confusion matrix with columns that sum to 1: below it the answers hardly depend on the class."""


@dataclass(frozen=True)
class PrevalenceEstimate:
    """How common each class is at the target.

    Args:
        method: `em` or `bbse`.
        source: `[classes]` float64, the shares among the source's labels.
        value: `[classes]` float64, the shares at the target; NaN where there is no answer.
        low, high: `[classes]` float64, its interval; NaN where there is none.
        gap_low, gap_high: the same of target minus source, both resampled.
        reason: why a value or an interval is missing; empty where nothing is.
    """

    method: Method
    source: Array
    value: Array
    low: Array
    high: Array
    gap_low: Array
    gap_high: Array
    reason: str

    @property
    def differs(self) -> bool | None:
        """Whether some class is rarer or commoner than at the source, beyond its interval; None: cannot tell."""
        if np.isnan(self.gap_low).any():
            return None
        return bool(((self.gap_low > 0) | (self.gap_high < 0)).any())


def estimate_prevalence(
    source_labels: Array,
    source_logits: Array,
    target_logits: Array,
    *,
    method: Method = "em",
    source_units: Sequence[str] | None = None,
    target_units: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 200,
    level: float = 0.95,
) -> PrevalenceEstimate:
    """Return the prevalence at a target whose labels nobody knows.

    Args:
        source_labels: `[n]` int, places of classes; validation images, on which the model did not learn.
        source_logits: `[n, classes]` float.
        target_logits: `[m, classes]` float.
        method: `em` (Saerens et al. 2002) on probabilities calibrated by `fit_calibrator`, the sharper one;
            or `bbse` (Lipton et al. 2018), from the confusion matrix, which needs no calibration.
        source_units, target_units: what is resampled together, as a patient, of each image; None: images.
        seed, resamples: of the bootstrap; source and target are drawn, and everything is fitted anew.
        level: of the intervals; of more than two classes each gets a wider one (Bonferroni), so that
            `differs` errs as rarely as `level` says.

    Raises:
        RequestError: a class has no image in the source, or there is no target image, or shapes differ.

    Reference:
        Saerens, Latinne & Decaestecker 2002, doi:10.1162/089976602753284446, equation 2.9; Alexandari,
        Kundaje & Shrikumar 2020, arXiv:1901.06852; Lipton, Wang & Smola 2018, arXiv:1802.03916.
    """
    _check(source_labels, source_logits, target_logits)
    classes = source_logits.shape[1]
    estimate = partial(_em_of if method == "em" else _bbse_of, source_labels, source_logits, target_logits)
    source = _shares(source_labels, np.ones(len(source_labels)), classes)
    value, reason = estimate(np.ones(len(source_labels)), np.ones(len(target_logits)))
    unknown = np.full(classes, np.nan)
    draws = _drawn(source_labels, source_units, seed, resamples)
    target = _drawn(np.zeros(len(target_logits), int), target_units, seed + 1, resamples)
    reason = reason or no_interval_reason(min(draws.groups, target.groups))
    if reason:
        return PrevalenceEstimate(method, source, value, unknown, unknown, unknown, unknown, reason)
    values, sources = _resampled(estimate, source_labels, draws, target, classes)
    wider = 1 - (1 - level) / (classes if classes > 2 else 1)
    low, high = _intervals(values, wider)
    gap_low, gap_high = _intervals(values - sources, wider)
    reason = UNDEFINED if np.isnan(low).any() else ""
    return PrevalenceEstimate(method, source, value, low, high, gap_low, gap_high, reason)


def correct_prevalence(probabilities: Array, source: Array, target: Array) -> Array:
    """Return `[n, classes]` float64: probabilities for another prevalence (Saerens et al. 2002, equation 2.4).

    Args:
        probabilities: `[n, classes]`, calibrated at the source.
        source, target: `[classes]`, the prevalence there and here; each class has some at the source.
    """
    weighed = probabilities * (target / source)
    shares: Array = weighed / weighed.sum(axis=1, keepdims=True)
    return shares


def em_prevalence(probabilities: Array, source: Array, weights: Array) -> Array:
    """Return the most likely prevalence `[classes]` of images, given calibrated probabilities.

    Rounds of EM creep where the answers hardly depend on the class: each is followed by a leap along the way that two of
    them took, which is taken where the likelihood does not fall.

    Args:
        probabilities: `[m, classes]`, calibrated at the source.
        source: `[classes]`, the prevalence there, none 0.
        weights: `[m]`, how often each image counts.

    Reference:
        Saerens et al. 2002, equation 2.9; the leaps: Varadhan & Roland 2008, doi:10.1111/j.1467-9469.2007.00585.x.
    """
    ratios, each = probabilities / source, weights / weights.sum()

    def told(shares: Array) -> Array:
        return np.maximum((ratios * shares).sum(axis=1), np.finfo(np.float64).tiny)

    def once(shares: Array) -> Array:
        found: Array = shares * (ratios * (each / told(shares))[:, None]).sum(axis=0)
        return found / found.sum()

    def likelihood(shares: Array) -> float:
        return float((each * np.log(told(shares))).sum())

    shares = source
    for _ in range(MOST_ROUNDS):
        first = once(shares)
        if np.abs(first - shares).max() < SETTLED:
            return first
        second = once(first)
        leapt = _leap(shares, first, second)
        shares = leapt if likelihood(leapt) >= likelihood(second) else second
    return shares


def _leap(start: Array, first: Array, second: Array) -> Array:
    """Return where two rounds of EM lead to when gone on with, no share below a thousandth of what it was."""
    way, bend = first - start, second - 2 * first + start
    length = np.linalg.norm(bend)
    factor = max(1.0, float(np.linalg.norm(way) / length)) if length > 0 else 1.0
    leapt = np.maximum(start + 2 * factor * way + factor**2 * bend, 1e-3 * second)
    shares: Array = leapt / leapt.sum()
    return shares


def bbse_prevalence(confusion: Array, answered: Array) -> tuple[Array, str]:
    """Return the prevalence `[classes]` that explains the answers, and why there is none.

    Args:
        confusion: `[classes, classes]`, at the source: of a class (column) the share of each answer (row).
        answered: `[classes]`, the share of each answer at the target.

    Returns:
        Shares that sum to 1, those below 0 set to 0; NaN with the reason where the matrix is near singular.
    """
    smallest = float(np.linalg.svd(confusion, compute_uv=False).min())
    if smallest < SMALLEST_SINGULAR:
        reason = (
            "the model's answers hardly depend on the class: the confusion matrix is nearly singular "
            f"(smallest singular value {smallest:.3f}, at least {SMALLEST_SINGULAR} is wanted)"
        )
        return np.full(len(answered), np.nan), reason
    shares = np.clip(np.linalg.solve(confusion, answered), 0.0, None)
    return shares / shares.sum(), ""


def _em_of(
    labels: Array, logits: Array, target: Array, weights: Array, target_weights: Array
) -> tuple[Array, str]:
    calibrator: Calibrator = fit_calibrator(labels, logits, weights=weights)
    source = _shares(labels, weights, logits.shape[1])
    return em_prevalence(calibrator.probabilities(target), source, target_weights), ""


def _bbse_of(
    labels: Array, logits: Array, target: Array, weights: Array, target_weights: Array
) -> tuple[Array, str]:
    classes = logits.shape[1]
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (logits.argmax(axis=1), labels), weights)
    answered = _shares(target.argmax(axis=1), target_weights, classes)
    return bbse_prevalence(confusion / confusion.sum(axis=0), answered)


def _shares(places: Array, weights: Array, classes: int) -> Array:
    counts = np.bincount(places, weights=weights, minlength=classes)
    return counts / counts.sum()


def _drawn(labels: Array, units: Sequence[str] | None, seed: int, resamples: int) -> Resamples:
    names = [str(row) for row in range(len(labels))] if units is None else list(units)
    return resample(names, [""] * len(labels), labels, seed=seed, resamples=resamples)


def _resampled(
    estimate: Callable[[Array, Array], tuple[Array, str]],
    labels: Array,
    draws: Resamples,
    target: Resamples,
    classes: int,
) -> tuple[Array, Array]:
    """Return `[resamples, classes]` prevalence at the target and at the source; NaN where a class is lacking."""
    values = np.full((len(draws.counts), classes), np.nan)
    sources = np.full_like(values, np.nan)
    for row, (drawn, drawn_target) in enumerate(zip(draws.counts, target.counts, strict=True)):
        weights = drawn[draws.group_of].astype(np.float64)
        shares = _shares(labels, weights, classes)
        if (shares > 0).all():
            sources[row] = shares
            values[row], _ = estimate(weights, drawn_target[target.group_of].astype(np.float64))
    return values, sources


def _intervals(values: Array, level: float) -> tuple[Array, Array]:
    found = [interval(column, level=level) or (np.nan, np.nan) for column in values.T]
    low, high = np.array(found).T
    return low, high


def _check(labels: Array, logits: Array, target: Array) -> None:
    if logits.ndim != 2 or target.ndim != 2 or logits.shape[1] != target.shape[1]:
        raise RequestError(
            f"Logits of source and target must be [images, classes] of the same classes, got "
            f"{logits.shape} and {target.shape}."
        )
    if len(labels) != len(logits):
        raise RequestError(f"{len(labels)} labels do not fit {len(logits)} rows of logits.")
    if not len(target):
        raise RequestError("There is no target image: nothing can be said of its prevalence.")
    absent = sorted(set(range(logits.shape[1])) - set(labels.tolist()))
    if absent:
        raise RequestError(
            f"Class {absent[0]} has no image among the source's validation images: how common it is at "
            "the target cannot be told. Give validation some (data.split.val_fraction)."
        )


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
    "the images of a class look alike at both sites; another scanner breaks that, and the estimates are then "
    "those of a model that is deceived"
)


@dataclass(frozen=True)
class _Sites:
    """What the estimates are made from; no label of `target` is read."""

    source: Predictions
    target: Predictions
    test: Predictions


def estimate_label_shift(
    predictions: Predictions,
    *,
    seed: int,
    resamples: int,
    level: float,
    source_val: Predictions | None = None,
    training_counts: Mapping[str, int] | None = None,
) -> dict[str, Any] | None:
    """Return what `scores.json` says of prevalence at the target; None where it is not asked.

    Args:
        predictions: of the source's split `val`, and of the target's splits `target_test` and `target_unlabelled`.
        seed, resamples, level: of the intervals; at most 200 resamples estimate a prevalence.
        source_val: the split `val` as the model answers with BatchNorm's statistics of the source, where its own are
            the target's; None: that in `predictions`.
        learnt_from: how many training images of the source each class has; None: not known.

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
    drawn = partial(resampled_part, seed=seed, resamples=resamples, level=level)
    estimates = {
        name: estimate_prevalence(
            found.source.labels, logits_from(found.source.probabilities),
            logits_from(found.target.probabilities), method=name,
            source_units=resampling_units(found.source), target_units=resampling_units(found.target),
            seed=seed, resamples=min(resamples, MOST_RESAMPLES), level=level,
        )
        for name in METHODS
    }  # fmt: skip
    test = drawn(found.test) if found.test.paths else None
    told |= {
        "resamples": min(resamples, MOST_RESAMPLES),
        "classes": _classes(predictions.class_names, estimates, test, training_counts or {}),
        "differs": {name: one.differs for name, one in estimates.items()},
    }
    return told | {"correction": _correction(found.source, test, estimates["em"])}


def _sites(predictions: Predictions, source_val: Predictions | None) -> _Sites | None:
    """Return the images of both sites in one order; None for a run without a target, or without a source."""
    source = _ordered(predictions.of(SOURCE) if source_val is None else source_val, labelled=True)
    at_target = [row for row, split in enumerate(predictions.splits) if split in TARGET]
    if not source.paths or not at_target:
        return None
    target = predictions.take(at_target)
    return _Sites(source, _ordered(target), _ordered(predictions.of(TEST), labelled=True))


def _ordered(one: Predictions, *, labelled: bool = False) -> Predictions:
    """Return the rows, or those with a label, in an order that does not depend on how they came."""
    units = resampling_units(one)
    rows = [row for row in range(len(one.paths)) if not labelled or one.labels[row] >= 0]
    return one.take(sorted(rows, key=lambda row: (units[row], one.paths[row])))


def _described(one: Predictions) -> dict[str, Any]:
    return {"splits": sorted(set(one.splits)), "images": len(one.paths), "groups": len(set(resampling_units(one)))}


def _lacking(source: Predictions) -> str:
    present = set(source.labels.tolist())
    absent = [name for place, name in enumerate(source.class_names) if place not in present]
    return f"no validation image of {', '.join(absent[:5])} at the source" if absent else ""


def _classes(
    names: Sequence[str],
    estimates: Mapping[Method, PrevalenceEstimate],
    test: Part | None,
    training_counts: Mapping[str, int],
) -> dict[str, Any]:
    source = estimates["em"].source
    total = sum(training_counts.values())
    true = _true_shares(test, len(names))
    return {
        name: {
            "train": without_interval(training_counts.get(name, 0) / total, COUNTED) if total else None,
            "source": without_interval(float(source[place]), COUNTED),
            **{method: _share(one, place) for method, one in estimates.items()},
            "true": true[place],
        }
        for place, name in enumerate(names)
    }


def _share(one: PrevalenceEstimate, place: int) -> dict[str, Any]:
    value, low, high = (float(column[place]) for column in (one.value, one.low, one.high))
    if np.isnan(value):
        return no_value(one.reason)
    if np.isnan(low):
        return without_interval(value, one.reason)
    return {"value": value, "low": low, "high": high}


def _true_shares(test: Part | None, classes: int) -> list[dict[str, Any]]:
    """Return the shares of the test labels: the one place where a label of the target is read."""
    if test is None:
        return [no_value(f"no labelled image in the split {TEST}")] * classes
    truth = test.predictions.labels[:, None] == np.arange(classes)

    def shares(weights: Array) -> Array:
        # Counts are whole numbers: a matrix product of them is exact in any order.
        found: Array = (weights @ truth.astype(np.float64)) / weights.sum(axis=1, keepdims=True)
        return found

    return test.estimate_columns(shares, "no images")


def _correction(source: Predictions, test: Part | None, found: PrevalenceEstimate) -> dict[str, Any] | None:
    """Return the figures of the test images as told, calibrated on the source, and corrected for the prevalence.

    Calibrator and prevalence stay as they are in every resample: they are what one would ship.
    """
    if test is None:
        return None
    one = test.predictions
    calibrator = fit_calibrator(source.labels, logits_from(source.probabilities))
    calibrated = calibrator.probabilities(logits_from(one.probabilities))
    # A class that EM takes for absent keeps a trace, so that an image of it costs much, not infinitely much.
    target = np.maximum(found.value, 1e-6)
    ways = {
        "uncalibrated": one.probabilities,
        "calibrated": calibrated,
        "corrected": correct_prevalence(calibrated, found.source, target / target.sum()),
    }
    figures = {
        way: {name: partial(metric, one.labels, told) for name, metric in FIGURES.items()}
        for way, told in ways.items()
    }
    told = {
        way: {name: test.tell(figure, "no images") for name, figure in some.items()}
        for way, some in figures.items()
    }
    difference = {
        name: estimate_difference(test, figures["uncalibrated"][name], figures["corrected"][name], name)
        for name in FIGURES
    }
    return {"by": "em", "split": TEST, **told, "difference": difference}
