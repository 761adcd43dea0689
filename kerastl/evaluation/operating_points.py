"""Sensitivity at a fixed specificity and the reverse, with a threshold that validation gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import Part, no_value
from kerastl.evaluation.calibration import decision_curve, fit_temperature, reliability_curve, with_temperature
from kerastl.evaluation.metrics import BINS, brier, ece, log_loss
from kerastl.evaluation.predictions import Array, Predictions

Fixed = Literal["specificity", "sensitivity"]
SLACK = 1e-9
"""Shares that differ by less are equal: 0.9 of 10 images is 9 of them."""


@dataclass(frozen=True)
class Point:
    """A place on the ROC curve that is held.

    Args:
        fixed: which of the two rates is held.
        at: the least it may be, 0 to 1.
        threshold: an image is called positive where its probability is at least this; None: validation
            gave none.
    """

    fixed: Fixed
    at: float
    threshold: float | None


def positive_class(class_names: Sequence[str], positive: str | None) -> int | None:
    """Return the place of the class that a test looks for.

    Args:
        class_names: in the order of the logits.
        positive: its name; None: the last of two classes, and no class of more.

    Raises:
        RequestError: there is no such class.
    """
    if positive is None:
        return 1 if len(class_names) == 2 else None
    if positive not in class_names:
        raise RequestError(
            f"evaluation.positive: there is no class '{positive}'. Known: {', '.join(class_names)}."
        )
    return list(class_names).index(positive)


def rates(positive: Array, scores: Array, weights: Array, *, threshold: float) -> Array:
    """Return `[resamples, 2]`: sensitivity and specificity at a threshold; NaN where a class has no weight.

    Args:
        positive: `[n]` bool.
        scores: `[n]`, higher for the positive class.
        weights: `[resamples, n]`.
        threshold: at it or above it an image is called positive.
    """
    called = scores >= threshold
    found, cleared = _counted(weights, positive & called), _counted(weights, ~positive & ~called)
    return _shares(found, cleared, positive, weights)


def optimal_rates(positive: Array, scores: Array, weights: Array, *, fixed: Fixed, at: float) -> Array:
    """Return `[resamples, 3]`: sensitivity, specificity and threshold of the best place on the ROC curve.

    The best place holds the fixed rate at `at` or more and has the other rate as high as that allows; each
    resample finds its own.
    """
    levels, found, cleared = _roc(positive, scores, weights)
    if fixed == "specificity":
        place = (cleared >= (at - SLACK) * cleared[:, -1:]).argmax(axis=1)
    else:
        enough = found >= (at - SLACK) * found[:, :1]
        place = enough.shape[1] - 1 - enough[:, ::-1].argmax(axis=1)
    rows = np.arange(len(weights))
    shares = _shares(found[rows, place], cleared[rows, place], positive, weights)
    told = np.column_stack([shares, levels[place]])
    # A place that was found on one class alone means nothing.
    told[np.isnan(shares).any(axis=1)] = np.nan
    return told


def _roc(positive: Array, scores: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return every threshold, and `[resamples, thresholds]` weight of positives at or above, of negatives below."""
    order = np.argsort(scores, kind="stable")
    ranked, drawn = scores[order], weights[:, order]
    known, first = np.unique(ranked, return_index=True)
    levels = np.append(known, np.nextafter(known[-1], np.inf))
    first = np.append(first, len(ranked))
    below = np.zeros((2, len(weights), len(ranked) + 1))
    np.cumsum(drawn * positive[order], axis=1, out=below[0][:, 1:])
    np.cumsum(drawn * ~positive[order], axis=1, out=below[1][:, 1:])
    return levels, below[0][:, -1:] - below[0][:, first], below[1][:, first]


def _counted(weights: Array, members: Array) -> Array:
    counted: Array = weights @ members.astype(np.float64)
    return counted


def _shares(found: Array, cleared: Array, positive: Array, weights: Array) -> Array:
    counts = np.stack([found, cleared], axis=1)
    of_class = np.stack([_counted(weights, positive), _counted(weights, ~positive)], axis=1)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, of_class, out=shares, where=of_class > 0)
    return shares


def points_from(
    validation: Predictions | None, positive: int, *, specificity: float, sensitivity: float
) -> list[Point]:
    """Return the two points, with the thresholds that the labelled validation images give."""
    wanted: list[tuple[Fixed, float]] = [("specificity", specificity), ("sensitivity", sensitivity)]
    return [Point(fixed, at, _threshold(validation, positive, fixed, at)) for fixed, at in wanted]


def _threshold(validation: Predictions | None, positive: int, fixed: Fixed, at: float) -> float | None:
    if validation is None:
        return None
    is_positive, scores = _binary(validation, positive)
    if is_positive.all() or not is_positive.any():
        return None
    weights = np.ones((1, len(scores)))
    return float(optimal_rates(is_positive, scores, weights, fixed=fixed, at=at)[0, 2])


def _binary(one: Predictions, positive: int) -> tuple[Array, Array]:
    return one.labels == positive, one.probabilities[:, positive]


COLUMNS = (
    "sensitivity", "specificity", "own_sensitivity", "own_specificity", "own_threshold",
    "sensitivity_difference", "specificity_difference",
)  # fmt: skip


def point_of(part: Part, positive: int, point: Point) -> dict[str, Any]:
    """Return what one threshold of validation comes to on other images, and what carrying it over costs.

    Returns:
        `{"sensitivity", "specificity"}` at validation's threshold; `{"own_sensitivity",
        "own_specificity", "own_threshold"}` at the threshold that the labels of these very images would
        have given; `{"sensitivity_difference", "specificity_difference"}`, the first minus the second, drawn
        alike. Intervals hold validation's threshold as it is; the own one is found anew in each resample.
    """
    is_positive, scores = _binary(part.predictions, positive)

    def figure(weights: Array) -> Array:
        own = optimal_rates(is_positive, scores, weights, fixed=point.fixed, at=point.at)
        carried = np.full((len(weights), 2), np.nan)
        if point.threshold is not None:
            carried = rates(is_positive, scores, weights, threshold=point.threshold)
        return np.column_stack([carried, own, carried - own[:, :2]])

    return dict(zip(COLUMNS, part.estimate_columns(figure, _why_undefined(is_positive)), strict=True))


def _why_undefined(is_positive: Array) -> str:
    if not is_positive.any():
        return "no image of the positive class"
    if is_positive.all():
        return "no image of another class"
    return "no threshold: validation has no labelled images of both kinds"


VALIDATION = "val"
"""The split that thresholds and temperature come from: the source's, whose labels every hospital A has."""
ELSEWHERE = "the validation images of the model as it came"
SCALED = {"ece": ece, "brier": brier, "log_loss": log_loss}


@dataclass(frozen=True)
class ValidationFit:
    """What validation fixed, once, for every other split and domain.

    Args:
        temperature: None where none could be fitted.
        why: the reason for that; empty where there is one.
        positive: place of the positive class; None where no class of several was named.
        points: the operating points; none without a positive class.
        origin: whose validation that was, in words.
    """

    temperature: float | None
    why: str
    positive: int | None
    points: tuple[Point, ...]
    origin: str = VALIDATION


def fit_on_validation(
    labelled: Mapping[str, Predictions],
    class_names: tuple[str, ...],
    *,
    positive: str | None,
    specificity: float,
    sensitivity: float,
    elsewhere: Mapping[str, Any] | None = None,
) -> ValidationFit:
    """Return what the split `val` fixes; where there is none, what validation fixed `elsewhere`.

    Args:
        labelled: by split.
        class_names: in the order of the logits.
        positive, specificity, sensitivity: as in `score`.
        elsewhere: `{"temperature", "positive", "points": [{"fixed", "at", "threshold"}]}` of the model before it was adapted,
            by images that are not at hand.

    Raises:
        RequestError: no class is called `positive`.
    """
    place = positive_class(class_names, positive)
    validation = labelled.get(VALIDATION)
    if validation is None and elsewhere is not None:
        return _from_elsewhere(elsewhere, class_names, place, specificity, sensitivity)
    points: list[Point] = []
    if place is not None:
        points = points_from(validation, place, specificity=specificity, sensitivity=sensitivity)
    if validation is None:
        return ValidationFit(None, f"no labelled image in the split {VALIDATION}", place, tuple(points))
    temperature = fit_temperature(validation.labels, validation.probabilities)
    why = "" if temperature else "no temperature from 0.02 to 50 is best on validation"
    return ValidationFit(temperature, why, place, tuple(points))


def _from_elsewhere(
    told: Mapping[str, Any],
    class_names: tuple[str, ...],
    place: int | None,
    specificity: float,
    sensitivity: float,
) -> ValidationFit:
    """Return what was fixed by validation images that are not at hand: thresholds only for what is asked for again."""
    known = {}
    if place is not None and told["positive"] == class_names[place]:
        known = {(one["fixed"], one["at"]): one["threshold"] for one in told["points"]}
    asked = points_from(None, 0, specificity=specificity, sensitivity=sensitivity)
    points = [replace(one, threshold=known.get((one.fixed, one.at))) for one in asked]
    why = "" if told["temperature"] else "the validation of the model as it came gave none"
    return ValidationFit(told["temperature"], why, place, tuple(points) if place is not None else (), ELSEWHERE)


def clinical_scores(parts: Mapping[str | None, Part], carried: ValidationFit) -> dict[str, Any]:
    """Return what is added to one split of `scores.json`.

    Args:
        parts: the split as a whole under None, and each of its domains by name.
        carried: what validation fixed.

    Returns:
        `{"operating_points", "calibration", "reliability", "decision_curve"}`; figures of the whole stand
        under `overall`, those of a domain under its name in `domains`.
    """
    names = parts[None].predictions.class_names
    return {
        "operating_points": _operating_points(parts, carried, names),
        "calibration": _calibration(parts, carried),
        "reliability": _reliability(parts, carried, names),
        "decision_curve": _decision_curve(parts, carried, names),
    }


def overall_and_domains(parts: Mapping[str | None, Part], tell: Callable[[Part], dict[str, Any]]) -> dict[str, Any]:
    """Return `{"overall": ..., "domains": {name: ...}}`: what is told of the whole and of each domain."""
    whole = tell(parts[None])
    domains = {
        name: whole if part is parts[None] else tell(part) for name, part in parts.items() if name is not None
    }
    return {"overall": whole, "domains": domains}


def _no_positive(names: tuple[str, ...]) -> str:
    return (
        f"{len(names)} classes and none named as the positive one: name it with evaluation.positive; "
        "it is then told from all the others together"
    )


def _operating_points(
    parts: Mapping[str | None, Part], carried: ValidationFit, names: tuple[str, ...]
) -> dict[str, Any]:
    place = carried.positive
    if place is None:
        return {"points": [], "positive": None, "reason": _no_positive(names)}
    points = [
        {
            "fixed": point.fixed,
            "at": point.at,
            "threshold": point.threshold,
            **overall_and_domains(parts, partial(point_of, positive=place, point=point)),
        }
        for point in carried.points
    ]
    return {"positive": names[place], "threshold_from": carried.origin, "points": points}


def _calibration(parts: Mapping[str | None, Part], carried: ValidationFit) -> dict[str, Any]:
    temperature: dict[str, Any] = {"value": carried.temperature, "from": carried.origin}
    if carried.why:
        temperature["reason"] = carried.why
    return {"bins": BINS, "temperature": temperature, **overall_and_domains(parts, partial(_scaled, carried=carried))}


def _scaled(part: Part, carried: ValidationFit) -> dict[str, Any]:
    """Return ECE, Brier score and log loss with the temperature; those without stand among the scores."""
    if carried.temperature is None:
        return {name: no_value(carried.why) for name in SCALED}
    one = part.predictions
    scaled = with_temperature(one.probabilities, carried.temperature)
    return {
        name: part.tell(partial(metric, one.labels, scaled), "no images") for name, metric in SCALED.items()
    }


def _reliability(
    parts: Mapping[str | None, Part], carried: ValidationFit, names: tuple[str, ...]
) -> dict[str, Any]:
    def tell(part: Part) -> dict[str, Any]:
        probabilities = part.predictions.probabilities
        told = {"uncalibrated": reliability_curve(part, probabilities)}
        if carried.temperature is not None:
            scaled = with_temperature(probabilities, carried.temperature)
            told["scaled"] = reliability_curve(part, scaled)
        return told

    of = f"probability of {names[1]}" if len(names) == 2 else "probability of the answer"
    return {"of": of, **overall_and_domains(parts, tell)}


def _decision_curve(
    parts: Mapping[str | None, Part], carried: ValidationFit, names: tuple[str, ...]
) -> dict[str, Any]:
    place = carried.positive
    if place is None:
        return {"positive": None, "reason": _no_positive(names)}
    return {"positive": names[place], **overall_and_domains(parts, partial(decision_curve, positive=place))}
