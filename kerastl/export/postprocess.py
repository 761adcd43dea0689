"""From what a run measured to how its export answers: which temperature, prevalence and operating point there are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kerastl.errors import report_damage
from kerastl.evaluation.trained_model import (
    AGAIN,
    Postprocessing,
    Prevalence,
    Threshold,
    class_shares_of,
    read_validation_fit,
)
from kerastl.recipe import read_plain
from kerastl.runs import RESOLVED_RECIPE

SCORES = "scores.json"
RAREST = 1e-6
"""A class that is taken for absent keeps a trace: an image of it must not be impossible."""

NOTHING_FIXED: dict[str, Any] = {"temperature": None, "positive": None, "points": []}


@dataclass(frozen=True)
class Asked:
    """How an export shall answer.

    Args:
        temperature: `validation` answers at the temperature that fits validation best; `none` as learnt.
        prevalence: `target` takes what the run estimated there by EM; or the share of each class, by name, of sum 1.
        threshold: the operating point of validation that decides what is predicted: that of the fixed `specificity`, or
            `sensitivity`; `none` answers the most probable class.
    """

    temperature: Literal["validation", "none"] = "validation"
    prevalence: Literal["none", "target"] | Mapping[str, float] = "none"
    threshold: Literal["none", "specificity", "sensitivity"] = "none"


def answering_of(run_folder: Path, class_names: Sequence[str], asked: Asked) -> tuple[Postprocessing, list[str]]:
    """Return how an export of a run answers, and what of the asked the run cannot give, one line each.

    A temperature that validation did not give is no lack: it is taken where there is one.

    Args:
        run_folder: a finished run.
        class_names: in the order of the probabilities.
        asked: what is wanted.
    """
    fixed = read_validation_fit(run_folder) or NOTHING_FIXED
    temperature = fixed["temperature"] if asked.temperature == "validation" else None
    lacks: list[str] = []
    prevalence = _prevalence(run_folder, class_names, asked.prevalence, lacks)
    threshold = None
    if asked.threshold != "none":
        threshold = _threshold(fixed, asked.threshold, class_names, lacks)
    return Postprocessing(temperature, prevalence, threshold), lacks


def answering_again(run_folder: Path, class_names: Sequence[str], told: Postprocessing) -> Postprocessing:
    """Return how an export that answers as `told` should answer by what the run says; served shares were anyone's choice."""
    fixed = read_validation_fit(run_folder) or NOTHING_FIXED
    temperature = None if told.temperature is None else fixed["temperature"]
    prevalence = told.prevalence
    if prevalence is not None:
        estimated = _estimated(run_folder, class_names)
        known = (estimated and estimated[0], _learnt(run_folder, class_names))
        prevalence = prevalence if prevalence.learnt in known else None
    places = [one["threshold"] for one in fixed["points"] if one["threshold"] is not None]
    at, threshold = told.threshold, None
    if at is not None and at.positive == fixed["positive"] and at.at in places:
        threshold = at
    return Postprocessing(temperature, prevalence, threshold)


def _threshold(
    fixed: Mapping[str, Any], name: str, class_names: Sequence[str], lacks: list[str]
) -> Threshold | None:
    for point in fixed["points"]:
        usable = point["threshold"] is not None and fixed["positive"] in class_names
        if point["fixed"] == name and usable:
            return Threshold(fixed["positive"], float(point["threshold"]))
    known = fixed["positive"] in class_names
    why = "validation gave none" if known else "no class is named as the positive one"
    lacks.append(f"threshold {name}: {why}")
    return None


def _prevalence(
    run_folder: Path,
    class_names: Sequence[str],
    asked: Literal["none", "target"] | Mapping[str, float],
    lacks: list[str],
) -> Prevalence | None:
    if asked == "none":
        return None
    if asked == "target":
        estimated = _estimated(run_folder, class_names)
        if estimated is None:
            lacks.append("prevalence target: the run estimated none")
            return None
        return Prevalence(*estimated)
    assert not isinstance(asked, str)
    faults = _faults_of_shares(asked, class_names)
    learnt = _learnt(run_folder, class_names)
    if learnt is None:
        faults.append("prevalence: the run does not say how common each class was in training")
    elif min(learnt) <= 0:
        faults.append("prevalence: a class has no training image, so nothing can be corrected")
    lacks += faults
    if faults or learnt is None:
        return None
    return Prevalence(learnt, _kept(asked[name] for name in class_names))


def _faults_of_shares(asked: Mapping[str, float], class_names: Sequence[str]) -> list[str]:
    known = ", ".join(class_names)
    faults = [f"prevalence: there is no class {name!r}. Known: {known}" for name in asked if name not in class_names]  # fmt: skip
    faults += [f"prevalence: {name!r} has no share" for name in class_names if name not in asked]
    if any(share < 0 for share in asked.values()) or abs(sum(asked.values()) - 1) > 1e-3:
        told = sum(asked.values())
        faults.append(f"prevalence: shares must be at least 0 and of sum 1, the sum is {told:g}")
    return faults


def _estimated(
    run_folder: Path, class_names: Sequence[str]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the shares at the source and at the target that `scores.json` tells."""
    file = run_folder / SCORES
    with report_damage(file, AGAIN):
        scores = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        classes = scores.get("label_shift", {}).get("classes")
        if classes is None:
            return None
        source = [classes[name]["source"]["value"] for name in class_names]
        target = [classes[name]["em"]["value"] for name in class_names]
        if None in source or None in target or min(source) <= 0:
            return None
        if not all(0 <= share <= 1 for share in (*source, *target)):
            raise ValueError("a share of label_shift is not from 0 to 1")
        return tuple(float(one) for one in source), _kept(target)


def _learnt(run_folder: Path, class_names: Sequence[str]) -> tuple[float, ...] | None:
    """Return the shares that the model's probabilities stand for: of training, or equal ones where classes were weighed."""
    shares = class_shares_of(run_folder, tuple(class_names))
    if shares is None:
        return None
    with report_damage(run_folder / RESOLVED_RECIPE, AGAIN):
        recipe = read_plain((run_folder / RESOLVED_RECIPE).read_text(encoding="utf-8"))
        if any(phase.get("class_weights") == "balanced" for phase in recipe["phases"]):
            return tuple(1 / len(class_names) for _ in class_names)
    return tuple(shares[name] for name in class_names)


def _kept(shares: Any) -> tuple[float, ...]:
    """Return shares of sum 1, none of them 0."""
    found = [max(float(one), RAREST) for one in shares]
    return tuple(one / sum(found) for one in found)
