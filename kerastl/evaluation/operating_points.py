"""Operating points: sensitivity at a fixed specificity and vice versa, with thresholds from validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from kerastl.errors import RequestError, in_syntax
from kerastl.evaluation.bootstrap import ResampledPredictions, Trials, canonical_order, no_value
from kerastl.evaluation.calibration import decision_curve, fit_temperature, reliability_curve
from kerastl.evaluation.metrics import BINS, CALIBRATION_METRICS, ratio
from kerastl.evaluation.predictions import Array, Predictions
from kerastl.tasks import SINGLE_LABEL

Fixed = Literal["specificity", "sensitivity"]
Parts = Mapping[str | None, ResampledPredictions]
"""A split as a whole under None, and each of its domains by name."""
TOLERANCE = 1e-9
"""Rates that differ by less are equal: 0.9 of 10 images is 9 images."""


@dataclass(frozen=True)
class OperatingPoint:
    """A point on the ROC curve with a minimum specificity or sensitivity.

    Args:
        fixed: The rate with a minimum.
        at: Its minimum, 0 to 1.
        threshold: Images with at least this probability (with the temperature of the run) are positive. None if
            validation gave no threshold.
    """

    fixed: Fixed
    at: float
    threshold: float | None


def positive_class(class_names: Sequence[str], positive: str | None) -> int | None:
    """Return the index of the positive class.

    Args:
        class_names: Class names in the order of the logits.
        positive: Name of the positive class. None for the last of two classes, and for no class with more.

    Raises:
        RequestError: If there is no such class.
    """
    if positive is None:
        return 1 if len(class_names) == 2 else None
    if positive not in class_names:
        raise RequestError(
            f"{in_syntax('evaluation.positive', 'positive')}: there is no class '{positive}'. "
            f"Classes: {', '.join(class_names)}."
        )
    return list(class_names).index(positive)


def rates(positive: Array, scores: Array, weights: Array, *, threshold: float) -> Array:
    """Return `[resamples, 2]`, sensitivity and specificity at a threshold. NaN if a class has no weight.

    Args:
        positive: `[n]` bool.
        scores: `[n]`, higher for the positive class.
        weights: `[resamples, n]`.
        threshold: Images with at least this score are classified as positive.
    """
    called = scores >= threshold
    return _rates(weights @ (positive & called), weights @ (~positive & ~called), positive, weights)


def optimal_rates(positive: Array, scores: Array, weights: Array, *, fixed: Fixed, at: float) -> Array:
    """Return `[resamples, 3]`, sensitivity, specificity and threshold of the best point on the ROC curve.

    The best point has at least `at` for the fixed rate and the maximum of the other rate. Each resample has its own.
    """
    thresholds, true_positives, true_negatives = _roc(positive, scores, weights)
    if fixed == "specificity":
        index = (true_negatives >= (at - TOLERANCE) * true_negatives[:, -1:]).argmax(axis=1)
    else:
        sufficient = true_positives >= (at - TOLERANCE) * true_positives[:, :1]
        index = sufficient.shape[1] - 1 - sufficient[:, ::-1].argmax(axis=1)
    rows = np.arange(len(weights))
    optimal = _rates(true_positives[rows, index], true_negatives[rows, index], positive, weights)
    points = np.column_stack([optimal, thresholds[index]])
    # A threshold from a single class is meaningless.
    points[np.isnan(optimal).any(axis=1)] = np.nan
    return points


def _roc(positive: Array, scores: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return the thresholds, and `[resamples, thresholds]` the weights of true positives and of true negatives."""
    order = np.argsort(scores, kind="stable")
    ranked, drawn = scores[order], weights[:, order]
    distinct, first = np.unique(ranked, return_index=True)
    thresholds = np.append(distinct, np.nextafter(distinct[-1], np.inf))
    first = np.append(first, len(ranked))
    below = np.zeros((2, len(weights), len(ranked) + 1))
    np.cumsum(drawn * positive[order], axis=1, out=below[0][:, 1:])
    np.cumsum(drawn * ~positive[order], axis=1, out=below[1][:, 1:])
    return thresholds, below[0][:, -1:] - below[0][:, first], below[1][:, first]


def _rates(true_positives: Array, true_negatives: Array, positive: Array, weights: Array) -> Array:
    rates = ratio(true_positives, weights @ positive), ratio(true_negatives, weights @ ~positive)
    return np.stack(rates, axis=1)


def _threshold(predictions: Predictions, positive: int, fixed: Fixed, at: float) -> float | None:
    """Return the threshold of the best point on the ROC curve. None if a class is absent."""
    is_positive, scores = predictions.binary(positive)
    threshold = optimal_rates(is_positive, scores, np.ones((1, len(scores))), fixed=fixed, at=at)[0, 2]
    return None if np.isnan(threshold) else float(threshold)


COLUMNS = (
    "sensitivity", "specificity", "own_sensitivity", "own_specificity", "own_threshold",
    "sensitivity_difference", "specificity_difference",
)  # fmt: skip


def _point_scores(part: ResampledPredictions, positive: int, point: OperatingPoint) -> dict[str, Any]:
    """Return the rates at the threshold of validation, and the cost of using it instead of an own threshold.

    Returns:
        `{"sensitivity", "specificity"}` at the threshold of validation; `{"own_sensitivity", "own_specificity",
        "own_threshold"}` at the threshold that the labels of these images would give; and the differences of the two,
        resampled together. The threshold of validation is fixed; each resample has its own threshold.
    """
    is_positive, scores = part.predictions.binary(positive)

    def statistic(weights: Array) -> Array:
        own = optimal_rates(is_positive, scores, weights, fixed=point.fixed, at=point.at)
        transferred = np.full((len(weights), 2), np.nan)
        if point.threshold is not None:
            transferred = rates(is_positive, scores, weights, threshold=point.threshold)
        return np.column_stack([transferred, own, transferred - own[:, :2]])

    sensitivity, specificity = (
        Trials(part.count_groups(rows), int(rows.sum())) for rows in (is_positive, ~is_positive)
    )
    estimates = part.estimate_columns(
        statistic, _undefined_reason(is_positive), trials=[sensitivity, specificity] * 2 + [None] * 3
    )
    return dict(zip(COLUMNS, estimates, strict=True))


def _undefined_reason(is_positive: Array) -> str:
    if not is_positive.any():
        return "no image of the positive class"
    if is_positive.all():
        return "no image of another class"
    return "no threshold: validation has no labeled images of both kinds"


VALIDATION = "val"
"""The split for thresholds and temperature: labeled images of the source."""
STORED_ORIGIN = "validation of the source model"


@dataclass(frozen=True)
class ValidationFit:
    """Temperature and thresholds from validation, for all splits and domains.

    Args:
        temperature: The temperature, or None.
        reason: Why there is no temperature. Empty if there is one.
        positive: Index of the positive class, or None.
        points: The operating points. They have no threshold without a positive class.
        origin: Description of the validation images.
    """

    temperature: float | None
    reason: str
    positive: int | None
    points: tuple[OperatingPoint, ...]
    origin: str

    def calibrate(self, predictions: Predictions) -> Array:
        """Return the probabilities of predictions with the temperature: `[n, classes]` float64."""
        return SINGLE_LABEL.probabilities(predictions.logits, self.temperature)


def validation_temperature(
    predictions: Predictions, stored_fit: Mapping[str, Any] | None = None
) -> float | None:
    """Return the temperature that `fit_on_validation` determines for predictions of any splits. None without one."""
    validation = canonical_order(predictions.of(VALIDATION), labeled=True)
    if validation.paths:
        return fit_temperature(validation.labels, validation.logits)
    return stored_fit["temperature"] if stored_fit else None


def fit_on_validation(
    labeled: Mapping[str, Predictions],
    class_names: tuple[str, ...],
    *,
    positive: str | None,
    specificity: float,
    sensitivity: float,
    stored_fit: Mapping[str, Any] | None = None,
) -> ValidationFit:
    """Return temperature and thresholds from the split `val`. Without this split, use `stored_fit`.

    Args:
        labeled: Labeled predictions by split.
        class_names: Class names in the order of the logits.
        positive, specificity, sensitivity: As in `score`.
        stored_fit: `{"temperature", "positive", "points": [{"fixed", "at", "threshold"}]}` of the model before its
            adaptation, if its validation images are unavailable.

    Raises:
        RequestError: If there is no class `positive`.
    """
    index = positive_class(class_names, positive)
    points: list[tuple[Fixed, float]] = [("specificity", specificity), ("sensitivity", sensitivity)]
    thresholds: dict[tuple[Fixed, float], float | None] = {}
    validation, origin = labeled.get(VALIDATION), VALIDATION
    if validation is not None:
        temperature = fit_temperature(validation.labels, validation.logits)
        reason = "no temperature from 0.02 to 50 is optimal on validation"
        if index is not None:
            thresholds = {(fixed, at): _threshold(validation, index, fixed, at) for fixed, at in points}
    elif stored_fit is not None:
        temperature, origin = stored_fit["temperature"], STORED_ORIGIN
        reason = "the source model has no temperature from validation"
        # Other operating points, or those of another class, have no threshold.
        if index is not None and stored_fit["positive"] == class_names[index]:
            thresholds = {(point["fixed"], point["at"]): point["threshold"] for point in stored_fit["points"]}
    else:
        temperature, reason = None, f"no labeled image in the split {VALIDATION}"
    fitted = tuple(OperatingPoint(fixed, at, thresholds.get((fixed, at))) for fixed, at in points)
    return ValidationFit(temperature, "" if temperature else reason, index, fitted, origin)


def clinical_scores(parts: Parts, fit: ValidationFit) -> dict[str, Any]:
    """Return the operating points and the calibration of one split of `scores.json`.

    Args:
        parts: The split and its domains.
        fit: Temperature and thresholds from validation.

    Returns:
        `{"operating_points", "calibration", "reliability", "decision_curve"}`, each with results for the split as
        `overall` and for each domain in `domains`. Those of `calibration` are under `before` (without the temperature)
        and `after`.
    """
    names = parts[None].predictions.class_names
    index = fit.positive
    if index is None:
        reason = (
            f"there are {len(names)} classes and no positive class. Set {in_syntax('evaluation.positive', 'positive')}; "
            "the other classes together are then negative"
        )
        points: dict[str, Any] = {"points": [], "positive": None, "reason": reason}
        curve: dict[str, Any] = {"positive": None, "reason": reason}
    else:
        curve = {"positive": names[index]}
        curve |= overall_and_domains(parts, partial(decision_curve, positive=index))
        points = {"positive": names[index], "threshold_from": fit.origin}
        points["points"] = [
            vars(point) | overall_and_domains(parts, partial(_point_scores, positive=index, point=point))
            for point in fit.points
        ]
    return {
        "operating_points": points,
        "calibration": _calibration(parts, fit),
        "reliability": _reliability(parts, fit, names),
        "decision_curve": curve,
    }


def overall_and_domains(
    parts: Parts, evaluate: Callable[[ResampledPredictions], dict[str, Any]]
) -> dict[str, Any]:
    """Return `{"overall": ..., "domains": {name: ...}}`, the result for the split and for each domain."""
    whole = evaluate(parts[None])
    domains = {
        name: whole if part is parts[None] else evaluate(part)
        for name, part in parts.items()
        if name is not None
    }
    return {"overall": whole, "domains": domains}


def _calibration(parts: Parts, fit: ValidationFit) -> dict[str, Any]:
    temperature: dict[str, Any] = {"value": fit.temperature, "from": fit.origin}
    if fit.reason:
        temperature["reason"] = fit.reason

    def before(part: ResampledPredictions) -> dict[str, Any]:
        return part.score(part.predictions.uncalibrated, CALIBRATION_METRICS)

    def after(part: ResampledPredictions) -> dict[str, Any]:
        if fit.temperature is None:
            return {name: no_value(fit.reason) for name in CALIBRATION_METRICS}
        return part.score(fit.calibrate(part.predictions), CALIBRATION_METRICS)

    scores = {"before": overall_and_domains(parts, before), "after": overall_and_domains(parts, after)}
    return {"bins": BINS, "temperature": temperature, **scores}


def _reliability(parts: Parts, fit: ValidationFit, names: tuple[str, ...]) -> dict[str, Any]:
    def curves(part: ResampledPredictions) -> dict[str, Any]:
        result = {"uncalibrated": reliability_curve(part, part.predictions.uncalibrated)}
        if fit.temperature is not None:
            result["calibrated"] = reliability_curve(part, fit.calibrate(part.predictions))
        return result

    of = f"probability of {names[1]}" if len(names) == 2 else "probability of the predicted class"
    return {"of": of, **overall_and_domains(parts, curves)}
