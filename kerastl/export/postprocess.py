"""Postprocessing of an export: temperature scaling, correction for a different prevalence, and an operating point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kerastl.errors import report_damage
from kerastl.evaluation.label_shift import correct_prevalence
from kerastl.evaluation.predictions import Array
from kerastl.evaluation.trained_model import read_class_shares, read_description, read_validation_fit
from kerastl.recipe import read_plain
from kerastl.runs import RESOLVED_RECIPE, Scores
from kerastl.runs.schemas import RUN_AGAIN, ServedPostprocessing, ServedPrevalence, ValidationResults
from kerastl.tasks import SINGLE_LABEL

MIN_SHARE = 1e-6
"""An absent class keeps this share: its images must stay possible."""
MIN_PROBABILITY = np.finfo(np.float64).tiny
SLACK = 1e-6
"""A threshold equals the probability of a validation image, which must stay positive after rounding."""
NOTHING_FIXED = ValidationResults(temperature=None, positive=None, points=())


@dataclass(frozen=True)
class Prevalence:
    """The share of each class, in the order of the probabilities.

    Args:
        training: Shares that the model was trained for, each above 0, of sum 1.
        served: Shares where the model is used, each at least 0, of sum 1.
    """

    training: tuple[float, ...]
    served: tuple[float, ...]


@dataclass(frozen=True)
class Threshold:
    """The condition for classifying an image as positive.

    Args:
        positive: Name of the positive class.
        probability: The smallest probability that counts as positive, 0 to 1, before the prevalence changes
            it.
        temperature: Divisor of the logits in that probability, above 0; None for 1. It is that of the run,
            also if the export has no temperature.
    """

    positive: str
    probability: float
    temperature: float | None = None


@dataclass(frozen=True)
class Postprocessing:
    """The postprocessing that an export applies to the logits; only their softmax by default.

    Args:
        temperature: Divisor of the logits, above 0; None for 1.
        prevalence: Corrects the probabilities (Saerens et al. 2002, equation 4); None for no correction.
        threshold: Predicts the positive class at or above it, and otherwise the most probable other class;
            None predicts the most probable class.

    Example:
        >>> Postprocessing(temperature=1.5, threshold=Threshold("ill", 0.3))
    """

    temperature: float | None = None
    prevalence: Prevalence | None = None
    threshold: Threshold | None = None

    def apply(self, logits: Array) -> Array:
        """Return `[n, classes]` float64 probabilities after postprocessing."""
        result = SINGLE_LABEL.probabilities(logits, self.temperature)
        if self.prevalence is not None:
            result = correct_prevalence(result, self.prevalence.training, self.prevalence.served)
        return result

    def invert(self, served: Array) -> Array:
        """Return the logits up to a constant per row, `[n, classes]` float64, given probabilities after postprocessing."""
        result = np.asarray(served, np.float64)
        if self.prevalence is not None:
            result = correct_prevalence(result, self.prevalence.served, self.prevalence.training)
        return np.log(np.maximum(result, MIN_PROBABILITY)) * (self.temperature or 1.0)

    def predict_labels(self, logits: Array, class_names: Sequence[str]) -> list[str]:
        """Return the predicted class of each row of logits."""
        served = self.apply(logits)
        if self.threshold is not None:
            positive = list(class_names).index(self.threshold.positive)
            scores = SINGLE_LABEL.probabilities(logits, self.threshold.temperature)[:, positive]
            is_positive = scores >= self.threshold.probability - SLACK
            served[:, positive] = np.where(is_positive, 2.0, -1.0)
        return [class_names[index] for index in served.argmax(axis=1)]

    def output_threshold(self, class_names: Sequence[str]) -> float | None:
        """Return the threshold after postprocessing. Only two classes have one: their order does not change."""
        if self.threshold is None or len(class_names) != 2:
            return None
        positive = list(class_names).index(self.threshold.positive)
        row = np.full((1, 2), 1 - self.threshold.probability)
        row[0, positive] = self.threshold.probability
        logits = Postprocessing(self.threshold.temperature).invert(row)
        return float(self.apply(logits)[0, positive])

    def describe(self, class_names: Sequence[str]) -> str:
        """Return the postprocessing in words, on one line."""
        steps = []
        if self.temperature is not None:
            steps.append(f"temperature {self.temperature:.3g}")
        if self.prevalence is not None:
            shares = zip(class_names, self.prevalence.served, strict=True)
            listed = ", ".join(f"{name} {share:.3g}" for name, share in shares)
            steps.append(f"corrected for the prevalence {listed}")
        if self.threshold is not None:
            served = self.output_threshold(class_names)
            where = "" if served is not None else " before the correction for the prevalence"
            probability = self.threshold.probability if served is None else served
            steps.append(
                f"{self.threshold.positive} is predicted from a probability of {probability:.3g}{where}"
            )
        return "Postprocessing: " + ("; ".join(steps) or "none")

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the entry `postprocessing` of `manifest.json`."""
        content = asdict(self)
        if self.prevalence is not None:
            content["prevalence"] = {
                name: dict(zip(class_names, shares, strict=True))
                for name, shares in vars(self.prevalence).items()
            }
        if self.threshold is not None:
            content["threshold"]["output_probability"] = self.output_threshold(class_names)
        return content

    @classmethod
    def from_json(cls, content: ServedPostprocessing, class_names: Sequence[str]) -> Postprocessing:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It does not match the class names.
        """
        prevalence, threshold = content.prevalence, content.threshold
        if threshold is not None and threshold.positive not in class_names:
            raise ValueError(f"the threshold is for an unknown class {threshold.positive!r}")
        return cls(
            content.temperature,
            None if prevalence is None else _read_prevalence(prevalence, class_names),
            None if threshold is None else Threshold(**threshold.model_dump(exclude={"output_probability"})),
        )


NO_POSTPROCESSING = Postprocessing()
"""The softmax of the logits, and the class with the largest probability."""


def _read_prevalence(content: ServedPrevalence, class_names: Sequence[str]) -> Prevalence:
    for shares in (content.training, content.served):
        if set(shares) != set(class_names) or not abs(sum(shares.values()) - 1) < 1e-3:
            raise ValueError("a prevalence must have one share per class, and the shares must sum to 1")
    if min(content.training.values()) <= 0:
        raise ValueError("the training share of each class must be above 0")
    return Prevalence(
        *(tuple(shares[name] for name in class_names) for shares in (content.training, content.served))
    )


@dataclass(frozen=True)
class PostprocessingOptions:
    """The requested postprocessing of an export. `resolve_postprocessing` finds the values in the run.

    Args:
        temperature: `validation` for the temperature that fits the validation images best; `none` for no
            scaling; None for that of the run, which its `predictions.csv` and `kerastl predict` use.
        prevalence: `target` for the shares that the run estimated at the target by EM; or the share of each
            class by name, of sum 1; `none` for no correction.
        threshold: `specificity` or `sensitivity` for the operating point of validation with that quantity
            fixed; `none` predicts the most probable class.
    """

    temperature: Literal["validation", "none"] | None = None
    prevalence: Literal["none", "target"] | Mapping[str, float] = "none"
    threshold: Literal["none", "specificity", "sensitivity"] = "none"


def resolve_postprocessing(
    run_folder: Path, class_names: Sequence[str], options: PostprocessingOptions
) -> tuple[Postprocessing, list[str]]:
    """Return the postprocessing that a run has values for, and one sentence for each missing value.

    A missing temperature is not reported: it is used if there is one.

    Args:
        run_folder: A finished run.
        class_names: Class names in the order of the probabilities.
        options: The requested postprocessing.
    """
    fixed, own = _read_validation(run_folder)
    temperature = {None: own, "validation": own or fixed.temperature, "none": None}[options.temperature]
    problems: list[str] = []
    prevalence = _prevalence(run_folder, class_names, options.prevalence, problems)
    threshold = None
    if options.threshold != "none":
        threshold = _threshold(fixed, options.threshold, own, class_names, problems)
    return Postprocessing(temperature, prevalence, threshold), problems


def expected_postprocessing(
    run_folder: Path, class_names: Sequence[str], exported: Postprocessing
) -> Postprocessing:
    """Return the postprocessing that an export should have, given its run. Any served shares are correct."""
    fixed, own = _read_validation(run_folder)
    temperature = None if exported.temperature is None else own or fixed.temperature
    prevalence, threshold = exported.prevalence, exported.threshold
    if prevalence is not None:
        estimated = _estimated_prevalence(run_folder, class_names)
        known = (estimated and estimated.training, _training_shares(run_folder, class_names))
        prevalence = prevalence if prevalence.training in known else None
    threshold = threshold if threshold in _thresholds(fixed, own) else None
    return Postprocessing(temperature, prevalence, threshold)


def operating_points(run_folder: Path) -> tuple[Threshold, ...]:
    """Return the thresholds that a run fixed on its validation images."""
    return _thresholds(*_read_validation(run_folder))


def _read_validation(run_folder: Path) -> tuple[ValidationResults, float | None]:
    """Return what a run fixed on its validation images, and the temperature of its probabilities."""
    return read_validation_fit(run_folder) or NOTHING_FIXED, read_description(run_folder).temperature


def _thresholds(fixed: ValidationResults, temperature: float | None) -> tuple[Threshold, ...]:
    return tuple(
        Threshold(fixed.positive or "", point.threshold, temperature)
        for point in fixed.points
        if point.threshold is not None
    )


def _threshold(
    fixed: ValidationResults,
    name: str,
    temperature: float | None,
    class_names: Sequence[str],
    problems: list[str],
) -> Threshold | None:
    if fixed.positive is None or fixed.positive not in class_names:
        problems.append(f"threshold {name}: the run has no positive class.")
        return None
    for point in fixed.points:
        if point.fixed == name and point.threshold is not None:
            return Threshold(fixed.positive, point.threshold, temperature)
    problems.append(f"threshold {name}: validation gave no operating point with that {name}.")
    return None


def _prevalence(
    run_folder: Path,
    class_names: Sequence[str],
    requested: Literal["none", "target"] | Mapping[str, float],
    problems: list[str],
) -> Prevalence | None:
    if requested == "none":
        return None
    if requested == "target":
        estimated = _estimated_prevalence(run_folder, class_names)
        if estimated is None:
            problems.append("prevalence target: the run has no estimate of the target's prevalence.")
        return estimated
    assert not isinstance(requested, str)
    faults = _faults_of_shares(requested, class_names)
    training = _training_shares(run_folder, class_names)
    if training is None:
        faults.append("prevalence: the run does not record the class shares of its training images.")
    elif min(training) <= 0:
        faults.append("prevalence: a class without training images cannot be corrected.")
    problems += faults
    if faults or training is None:
        return None
    return Prevalence(training, _nonzero(requested[name] for name in class_names))


def _faults_of_shares(shares: Mapping[str, float], class_names: Sequence[str]) -> list[str]:
    known = ", ".join(class_names)
    faults = [
        f"prevalence: unknown class {name!r}. Known: {known}." for name in shares if name not in class_names
    ]
    faults += [f"prevalence: {name!r} has no share." for name in class_names if name not in shares]
    total = sum(shares.values())
    if any(share < 0 for share in shares.values()) or abs(total - 1) > 1e-3:
        faults.append(f"prevalence: shares must be at least 0 and sum to 1; their sum is {total:g}.")
    return faults


def _estimated_prevalence(run_folder: Path, class_names: Sequence[str]) -> Prevalence | None:
    """Return the shares at the source and at the target in `scores.json`; None if it has none."""
    scores = Scores.read_if_present(run_folder)
    classes = scores.label_shift.classes if scores and scores.label_shift else {}
    if not set(class_names) <= set(classes):
        return None
    # None becomes NaN.
    source = np.array([classes[name].source.value for name in class_names], np.float64)
    target = np.array([classes[name].em.value for name in class_names], np.float64)
    if not (source > 0).all() or np.isnan(target).any():
        return None
    return Prevalence(tuple(source.tolist()), _nonzero(target))


def _training_shares(run_folder: Path, class_names: Sequence[str]) -> tuple[float, ...] | None:
    """Return the class shares that the model was trained for; equal ones if the loss was weighted by class."""
    shares = read_class_shares(run_folder, tuple(class_names))
    if shares is None:
        return None
    with report_damage(run_folder / RESOLVED_RECIPE, RUN_AGAIN):
        recipe = read_plain((run_folder / RESOLVED_RECIPE).read_text(encoding="utf-8"))
        if any(phase.get("class_weights") == "balanced" for phase in recipe["phases"]):
            return tuple(1 / len(class_names) for _ in class_names)
    return tuple(shares[name] for name in class_names)


def _nonzero(shares: Iterable[float]) -> tuple[float, ...]:
    """Return shares of sum 1, none of them 0."""
    raised = [max(float(share), MIN_SHARE) for share in shares]
    return tuple(share / sum(raised) for share in raised)
