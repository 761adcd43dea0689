"""What a hospital asks of a classifier beside its AUC: operating points, calibration, decision curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kerastl.evaluation.curves import decision_of, reliability_of
from kerastl.evaluation.measured import Part, nothing
from kerastl.evaluation.metrics import BINS, brier, ece, log_loss
from kerastl.evaluation.operating import Point, point_of, points_from, positive_class
from kerastl.evaluation.predictions import Predictions
from kerastl.evaluation.temperature import fit_temperature, with_temperature

VALIDATION = "val"
"""The split that thresholds and temperature come from: the source's, whose labels every hospital A has."""
ELSEWHERE = "the validation pictures of the model as it came"
SCALED = {"ece": ece, "brier": brier, "log_loss": log_loss}


@dataclass(frozen=True)
class Carried:
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


def carried_from(
    labelled: Mapping[str, Predictions],
    class_names: tuple[str, ...],
    *,
    positive: str | None,
    specificity: float,
    sensitivity: float,
    elsewhere: Mapping[str, Any] | None = None,
) -> Carried:
    """Return what the split `val` fixes; where there is none, what validation fixed `elsewhere`.

    Args:
        labelled: by split.
        class_names: in the order of the logits.
        positive, specificity, sensitivity: as in `score`.
        elsewhere: `{"temperature", "positive", "points": [{"fixed", "at", "threshold"}]}` of the model before it was adapted,
            by pictures that are not at hand.

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
        return Carried(None, f"no labelled picture in the split {VALIDATION}", place, tuple(points))
    temperature = fit_temperature(validation.labels, validation.probabilities)
    why = "" if temperature else "no temperature from 0.02 to 50 is best on validation"
    return Carried(temperature, why, place, tuple(points))


def _from_elsewhere(
    told: Mapping[str, Any],
    class_names: tuple[str, ...],
    place: int | None,
    specificity: float,
    sensitivity: float,
) -> Carried:
    """Return what was fixed by validation pictures that are not at hand: thresholds only for what is asked for again."""
    known = {}
    if place is not None and told["positive"] == class_names[place]:
        known = {(one["fixed"], one["at"]): one["threshold"] for one in told["points"]}
    asked = points_from(None, 0, specificity=specificity, sensitivity=sensitivity)
    points = [replace(one, threshold=known.get((one.fixed, one.at))) for one in asked]
    why = "" if told["temperature"] else "the validation of the model as it came gave none"
    return Carried(
        told["temperature"], why, place, tuple(points) if place is not None else (), ELSEWHERE
    )


def hospital_figures(parts: Mapping[str | None, Part], carried: Carried) -> dict[str, Any]:
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


def everywhere(
    parts: Mapping[str | None, Part], tell: Callable[[Part], dict[str, Any]]
) -> dict[str, Any]:
    """Return `{"overall": ..., "domains": {name: ...}}`: what is told of the whole and of each domain."""
    whole = tell(parts[None])
    domains = {
        name: whole if part is parts[None] else tell(part)
        for name, part in parts.items()
        if name is not None
    }
    return {"overall": whole, "domains": domains}


def _no_positive(names: tuple[str, ...]) -> str:
    return (
        f"{len(names)} classes and none named as the positive one: name it with evaluation.positive; "
        "it is then told from all the others together"
    )


def _operating_points(
    parts: Mapping[str | None, Part], carried: Carried, names: tuple[str, ...]
) -> dict[str, Any]:
    place = carried.positive
    if place is None:
        return {"points": [], "positive": None, "reason": _no_positive(names)}
    points = [
        {
            "fixed": point.fixed,
            "at": point.at,
            "threshold": point.threshold,
            **everywhere(parts, partial(point_of, positive=place, point=point)),
        }
        for point in carried.points
    ]
    return {"positive": names[place], "threshold_from": carried.origin, "points": points}


def _calibration(parts: Mapping[str | None, Part], carried: Carried) -> dict[str, Any]:
    temperature: dict[str, Any] = {"value": carried.temperature, "from": carried.origin}
    if carried.why:
        temperature["reason"] = carried.why
    return {
        "bins": BINS,
        "temperature": temperature,
        **everywhere(parts, partial(_scaled, carried=carried)),
    }


def _scaled(part: Part, carried: Carried) -> dict[str, Any]:
    """Return ECE, Brier score and log loss with the temperature; those without stand among the scores."""
    if carried.temperature is None:
        return {name: nothing(carried.why) for name in SCALED}
    one = part.predictions
    scaled = with_temperature(one.probabilities, carried.temperature)
    return {
        name: part.tell(partial(metric, one.labels, scaled), "no pictures")
        for name, metric in SCALED.items()
    }


def _reliability(
    parts: Mapping[str | None, Part], carried: Carried, names: tuple[str, ...]
) -> dict[str, Any]:
    def tell(part: Part) -> dict[str, Any]:
        probabilities = part.predictions.probabilities
        told = {"as_told": reliability_of(part, probabilities)}
        if carried.temperature is not None:
            scaled = with_temperature(probabilities, carried.temperature)
            told["scaled"] = reliability_of(part, scaled)
        return told

    of = f"probability of {names[1]}" if len(names) == 2 else "probability of the answer"
    return {"of": of, **everywhere(parts, tell)}


def _decision_curve(
    parts: Mapping[str | None, Part], carried: Carried, names: tuple[str, ...]
) -> dict[str, Any]:
    place = carried.positive
    if place is None:
        return {"positive": None, "reason": _no_positive(names)}
    return {
        "positive": names[place],
        **everywhere(parts, partial(decision_of, positive=place)),
    }
